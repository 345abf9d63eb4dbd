"""Records that tell where others of their transaction were appended."""

from collections.abc import Callable, Iterable

import pytest
from confluent_kafka import KafkaError

from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.follow_ups import FollowUps
from tests.topics.kafka.transaction.loop_harness import NEVER_S, LoopHarness

SOURCE = Partition("cutouts.shop", 0)


class Answer:
    """A message as the library hands it to a callback."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        return self._offset


def following(offset: int) -> Outgoing:
    return Outgoing("index.shop", 0, None, [], b"at %d" % offset)


RECORD = Outgoing("ephemeral.shop", 0, None, [], b"result", following)


def test_it_is_made_with_the_offset_once() -> None:
    follow_ups, errors = FollowUps(), list[object]()
    answered = follow_ups.expecting(RECORD, SOURCE, lambda error, _: errors.append(error))
    answered(None, Answer(17))  # type: ignore[arg-type]
    assert list(follow_ups.take()) == [(SOURCE, following(17))]
    assert list(follow_ups.take()) == []
    assert errors == [None]


@pytest.mark.parametrize(
    ("error", "offset"), [(None, -1), (None, None), (KafkaError(KafkaError.INVALID_RECORD), 3)]
)
def test_without_an_offset_the_transaction_is_aborted(
    error: KafkaError | None, offset: int | None
) -> None:
    """Or without any answer: an image that the index does not know would be lost."""
    follow_ups = FollowUps()
    answered = follow_ups.expecting(RECORD, SOURCE, lambda *_: None)
    with pytest.raises(AbortRequired):
        list(follow_ups.take())
    answered(error, Answer(offset))  # type: ignore[arg-type]
    with pytest.raises(AbortRequired):
        list(follow_ups.take())


def test_it_is_committed_with_its_record_or_not_at_all(scripted: LoopHarness) -> None:
    """An abort repeats both; what is committed tells the true offset."""
    handler = scripted.handler
    copy: Callable[[Record], Iterable[Outgoing]] = handler.handle
    failures = iter([KafkaError(KafkaError._TIMED_OUT)])

    def handle(record: Record) -> Iterable[Outgoing]:
        (outgoing,) = copy(record)
        yield outgoing._replace(
            follow_up=lambda offset: Outgoing(
                handler.to, 1, None, [], b"%s at %d" % (record.value, offset)
            )
        )

    handler.handle = handle  # type: ignore[method-assign]
    scripted.produce(b"1", b"2")
    loop = scripted.start(interval_s=NEVER_S, has_follow_ups=True)
    producer = loop._clients.producer
    commit = producer.commit

    def failing(*arguments: object) -> None:
        for failure in failures:
            raise AbortRequired(failure)
        commit(*arguments)  # type: ignore[arg-type]

    producer.commit = failing  # type: ignore[method-assign, assignment]
    scripted.run_until(lambda: loop.counters.committed)
    records = scripted.committed_records()
    reported = {record.value for record in records if record.at.number == 1}
    copies = [record for record in records if record.at.number == 0]
    assert [record.value for record in copies] == [b"1", b"2"]
    assert reported == {b"%s at %d" % (record.value, record.offset) for record in copies}
