"""Pictures that are not stored in time: the alarm, and what is known of those that are lost."""

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.stages.encryption.held_records import HeldRecords, WaitingRecord
from erasestream.pipeline.stages.encryption.loss_report import LossReport
from erasestream.pipeline.stages.encryption.loss_watch import LossWatch
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.pipeline.stages.encryption.unread_records import UnreadRecords
from erasestream.pipeline.stages.encryption.unstored_alarm import UnstoredAlarm
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.roles import SINK
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.encryption.sink_harness import (
    OutdatedView,
    RecordingSink,
    Retain,
    delete_retained,
    granted,
)
from tests.sinks.retention_harness import ManualClock

AT = Partition(RETAINED, 0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ago_ms(hours: float) -> int:
    return round((NOW - timedelta(hours=hours)).timestamp() * 1000)


def test_the_alarm_is_raised_at_half_of_a_pictures_life(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each time, and until everything of that age is stored."""
    alarm = UnstoredAlarm(life_s=8 * 3600, now=lambda: NOW)
    caplog.set_level(logging.WARNING)
    alarm.update(ago_ms(3.9))
    assert not alarm.is_raised
    alarm.update(ago_ms(4))
    alarm.update(ago_ms(5))
    assert alarm.is_raised
    assert "erasestream_sink_alarm 1\n" in alarm.metrics()
    assert "erasestream_sink_oldest_unstored_seconds 18000\n" in alarm.metrics()
    alarm.update(None)
    assert not alarm.is_raised
    assert [record.msg for record in caplog.records] == [
        "retained_not_stored",
        "retained_stored_again",
    ]


def test_an_unreadable_record_is_held_until_its_life_ends() -> None:
    """Then it is reported; the alarm ends, and the group goes on behind it."""
    written, held = list[tuple[str, str]](), HeldRecords()
    alarm = UnstoredAlarm(life_s=8 * 3600, now=lambda: NOW)
    losses = LossWatch(
        report=LossReport(lambda name, finding: written.append((name, finding.detail))),
        alarm=alarm,
        unread=UnreadRecords(committed=lambda _: None, log_start=lambda _: 0),
        stopping=threading.Event(),
    )
    for offset, hours in ((5, 8), (6, 7)):
        held.hold(AT, offset, ago_ms(hours))
        held.leave(AT, offset)
    losses.update(held)
    assert written == [(RETAINED, f"{AT} at 5, unreadable")]
    assert held.to_commit() == {AT: 6}
    assert (alarm.purged, alarm.is_raised) == (1, True)
    held.done(AT, 6)
    losses.update(held)
    assert not alarm.is_raised
    assert len(written) == 1


def test_the_longest_id_is_in_the_ledger_whole() -> None:
    """A person searches for it."""
    written, name = list[str](), UploadId("\N{GRINNING FACE}" * 255)
    report = LossReport(lambda _, finding: written.append(finding.detail))
    at = Partition(RETAINED, 2**31 - 1)
    report.report_purged([WaitingRecord(at, 2**63 - 1, Lane("shop"), name, {})])
    assert written == [f"{at} at {2**63 - 1}, upload {name}"]


@pytest.mark.parametrize(
    ("expected", "found", "start", "purged"),
    [
        (5, 9, 7, range(5, 7)),
        (5, 9, 9, range(5, 9)),
        (5, 9, 100, range(5, 9)),  # purged after it was fetched
        (5, 9, 3, range(5, 5)),  # markers of transactions
        (5, 5, 5, range(0)),
        (None, 9, 7, range(2, 7)),
    ],
)
def test_skipped_offsets_are_lost_if_they_are_deleted(
    expected: int | None, found: int, start: int, purged: range
) -> None:
    """The first record that a member reads follows what the group has committed."""
    unread = UnreadRecords(committed=lambda _: 2, log_start=lambda _: start)
    assert unread.purged(AT, expected=expected, found=found) == purged


def test_brokers_are_asked_once_a_second() -> None:
    """A marker, and so a skipped offset, is behind each transaction; about more, at once."""
    asked, clock = list[Partition](), ManualClock()

    def log_start(at: Partition) -> int:
        asked.append(at)
        return 0

    unread = UnreadRecords(committed=lambda _: None, log_start=log_start, clock=clock)
    for offset in range(2, 100, 2):
        unread.purged(AT, expected=offset - 1, found=offset)
    clock.now += 1
    unread.purged(AT, expected=1, found=2)
    assert len(asked) == 2
    unread.purged(AT, expected=1, found=3)
    assert len(asked) == 3


def test_pictures_that_are_deleted_before_they_are_stored_are_named(
    kafka: KafkaFixture,
    lane: Lane,
    other_lane: Lane,
    view: OutdatedView,
    stage: EncryptionStage,
    losses: list[tuple[str, str]],
    alarm: UnstoredAlarm,
    retain: Retain,
    *,
    sink: RecordingSink,
) -> None:
    """One waits for its lane; the group goes on behind it."""
    grant, mark = granted(kafka, lane)
    view.unreachable = frozenset({lane})
    upload = retain(lane, grant, mark)
    offset = kafka.offsets.log_end(AT) - 1
    retain(other_lane, *granted(kafka, other_lane))

    def are_both_read() -> bool:
        stage.run_once()
        return stage.waiting == 1 and bool(sink.grants)

    eventually("both are read", are_both_read, poll_s=0)
    delete_retained(kafka)
    view.unreachable = frozenset()
    eventually("it is lost", lambda: stage.run_once() or losses, poll_s=0)
    assert losses == [(lane, f"{AT} at {offset}, upload {upload}")]
    assert alarm.purged == 1
    assert "erasestream_sink_purged_total 1" in stage.metrics()


@pytest.mark.parametrize("later", [0, 1])
def test_pictures_that_were_deleted_while_the_sink_was_down_are_counted(
    later: int,
    kafka: KafkaFixture,
    lane: Lane,
    committed: dict[Partition, int],
    stage: EncryptionStage,
    losses: list[tuple[str, str]],
    alarm: UnstoredAlarm,
    retain: Retain,
) -> None:
    """Though the partition is empty by now, or its end is read together with the next record."""
    committed[AT] = kafka.offsets.log_end(AT)
    grant, mark = granted(kafka, lane)
    for _ in range(2):
        retain(lane, grant, mark)
    delete_retained(kafka)
    for _ in range(later):
        retain(lane, grant, mark)
    eventually("they are reported", lambda: stage.run_once() or losses, poll_s=0)
    detail = f"up to 2 images of any lane, never read, from {AT} at {committed[AT]}"
    assert losses == [(RETAINED, detail)]
    assert alarm.purged == 2


def test_records_are_read_on_for_their_names_while_the_alarm_is_raised(
    kafka: KafkaFixture,
    lane: Lane,
    stage: EncryptionStage,
    sink: RecordingSink,
    alarm: UnstoredAlarm,
    retain: Retain,
) -> None:
    """There is no room for them: they wait by their positions, and are read again."""
    first = kafka.offsets.log_end(AT)
    gate = threading.Event()
    sink.gates = [gate] * 2
    grant, mark = granted(kafka, lane)
    alarm.update(0)
    for _ in range(2):
        retain(lane, grant, mark, size=600_000)
    eventually("there is no room", lambda: stage.run_once() or len(sink.gates) == 0, poll_s=0)
    for _ in range(3):
        retain(lane, grant, mark)

    def read_on() -> bool:
        alarm.is_raised = True
        stage.run_once()
        return stage.waiting == 3

    eventually("the others are read", read_on, poll_s=0)
    gate.set()

    def committed() -> int | None:
        stage.run_once()
        found = kafka.groups.committed(SINK, [AT]).get(AT)
        return found.offset if found else None

    eventually("all are stored", lambda: committed() == first + 5, poll_s=0)
    assert len(sink.grants) == 5
