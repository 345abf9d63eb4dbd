"""Ends that leaders report, in the order in which responses come."""

import logging

import pytest
from confluent_kafka import TopicPartition

from erasestream.topics.kafka.consumer.reported_end import CONFIRM_S, ReportedEnds
from erasestream.topics.kafka.records import Partition

AT = Partition("consent.lane", 0)


class Responses:
    """A client whose last response reported this end."""

    def __init__(self) -> None:
        self.end = 0

    def get_watermark_offsets(self, _at: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self.end


@pytest.mark.parametrize("passed_s", [0.1, 10 * CONFIRM_S])
def test_a_record_that_was_appended_while_the_leader_answered_is_not_forged(
    passed_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Its response reports the end before it, as Kafka 4.4 does; the next one is true."""
    now_s, client = [0.0], Responses()
    ends = ReportedEnds(clock=lambda: now_s[0])
    client.end = 7
    assert not ends.covers(client, AT, 8)  # type: ignore[arg-type]
    ends.suspect(AT, 7)
    client.end, now_s[0] = 8, passed_s
    assert ends.covers(client, AT, 8)  # type: ignore[arg-type]
    assert not ends.forged
    assert not caplog.records


def test_an_offset_that_no_response_confirms_is_forged(caplog: pytest.LogCaptureFixture) -> None:
    now_s, client = [0.0], Responses()
    ends = ReportedEnds(clock=lambda: now_s[0])
    client.end = 7
    ends.suspect(AT, 1_000)
    for now in (0.0, CONFIRM_S / 2):
        now_s[0] = now
        assert not ends.covers(client, AT, 1_001)  # type: ignore[arg-type]
        assert not ends.forged
    now_s[0] = CONFIRM_S
    for _ in range(2):
        assert ends.covers(client, AT, 7)  # type: ignore[arg-type]
        assert ends.forged == {AT}
        ends.suspect(AT, 1_001)
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (logging.WARNING, "forged_offset")
    ]
