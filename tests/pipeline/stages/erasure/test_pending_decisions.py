"""Offsets are committed up to the first decision that is pending."""

from erasestream.pipeline.stages.erasure.pending_decisions import OffsetTracker, PendingDecision
from erasestream.topics.kafka.records import Partition, Record

ONE, OTHER = Partition("consent.shop", 0), Partition("consent.shop", 1)


def record(at: Partition, offset: int) -> Record:
    return Record(at, offset, 0, b"key", [], b"")


def pending(*records: Record) -> list[PendingDecision]:
    return [PendingDecision(each) for each in records]


def test_without_pending_decisions_all_that_was_read_is_committed() -> None:
    offsets = OffsetTracker()
    assert offsets.advance([record(ONE, 3), record(ONE, 4), record(OTHER, 9)], []) == {
        ONE: 5,
        OTHER: 10,
    }
    assert offsets.advance([], []) == {}


def test_a_pending_decision_holds_back_its_own_partition_only() -> None:
    offsets = OffsetTracker()
    read = [record(ONE, 3), record(ONE, 4), record(ONE, 5), record(OTHER, 9)]
    assert offsets.advance(read, pending(record(ONE, 4))) == {ONE: 4, OTHER: 10}
    assert offsets.advance([record(ONE, 4)], []) == {ONE: 6}
