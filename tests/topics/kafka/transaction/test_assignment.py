"""The rules of an assignment, with a consumer and start offsets in memory."""

from collections.abc import Iterable, Mapping

import pytest
from confluent_kafka import TopicPartition

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.quarantine import (
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    TRIAL_S,
    Quarantine,
)
from erasestream.topics.kafka.transaction.start_offsets import Found, StaleGeneration, StartOffset
from tests.topics.kafka.transaction.copy_handler import CopyHandler

FIRST, SECOND = Partition("cutouts.shop", 0), Partition("cutouts.shop", 1)


class FakeConsumer:
    def __init__(self) -> None:
        self.assigned: list[dict[Partition, int]] = []

    def assign(self, starts: Mapping[Partition, StartOffset]) -> None:
        self.assigned.append({at: start.offset for at, start in starts.items()})


class FakeStartOffsets:
    def __init__(self) -> None:
        self.offset = 7
        self.is_stale = False
        self.broken: list[PartitionBroken] = []
        self.postponed: list[Partition] = []

    def find(self, partitions: Iterable[Partition]) -> Found:
        if self.is_stale:
            raise StaleGeneration("REBALANCE_IN_PROGRESS")
        starts = {at: StartOffset(self.offset, "") for at in partitions}
        without = [broken for broken in self.broken if starts.pop(broken.at, None)]
        return Found(starts, without, [at for at in self.postponed if starts.pop(at, None)])


class Harness:
    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.start_offsets = FakeStartOffsets()
        self.now_s = 0.0
        self.registry = QuarantineRegistry()
        self.quarantine = Quarantine(listener=self.registry, clock=lambda: self.now_s)
        self.assignment = Assignment(
            consumer=self.consumer,  # type: ignore[arg-type]
            start_offsets=self.start_offsets,  # type: ignore[arg-type]
            handler=CopyHandler("ephemeral.shop"),
            quarantine=self.quarantine,
        )

    def next_offsets(self) -> dict[Partition, int]:
        return {Partition(tp.topic, tp.partition): tp.offset for tp in self._next()}

    def _next(self) -> list[TopicPartition]:
        return self.assignment.next_offsets()


@pytest.fixture
def harness() -> Harness:
    return Harness()


def record(at: Partition, offset: int) -> Record:
    return Record(at, offset, 0, None, [], b"result")


def test_only_handled_partitions_are_committed(harness: Harness) -> None:
    harness.assignment.assign([FIRST, SECOND])
    assert harness.consumer.assigned == [{FIRST: 7, SECOND: 7}]
    assert FIRST in harness.assignment
    assert harness.next_offsets() == {}
    harness.assignment.handled(record(SECOND, 9))
    assert harness.next_offsets() == {SECOND: 10}


def test_a_restart_forgets_uncommitted_offsets(harness: Harness) -> None:
    harness.assignment.assign([FIRST])
    harness.assignment.handled(record(FIRST, 9))
    epoch, harness.start_offsets.offset = harness.assignment.epoch, 8
    harness.assignment.restart()
    assert harness.next_offsets() == {}
    assert harness.consumer.assigned == [{FIRST: 7}, {FIRST: 8}]
    assert harness.assignment.epoch > epoch


def test_an_empty_assignment_is_known(harness: Harness) -> None:
    assert not harness.assignment.is_known
    harness.assignment.assign([])
    assert harness.assignment.is_known
    assert harness.assignment.partitions == []


def test_a_revocation_forgets_all_partitions(harness: Harness) -> None:
    harness.assignment.assign([FIRST])
    harness.assignment.handled(record(FIRST, 9))
    epoch = harness.assignment.epoch
    harness.assignment.revoke()
    assert not harness.assignment.is_known
    assert FIRST not in harness.assignment
    assert harness.next_offsets() == {}
    assert harness.assignment.epoch > epoch
    harness.assignment.restart()
    assert not harness.assignment.is_known


def test_a_stale_generation_assigns_nothing(harness: Harness) -> None:
    harness.start_offsets.is_stale = True
    harness.assignment.assign([FIRST])
    assert not harness.assignment.is_known
    assert harness.assignment.partitions == []
    assert harness.consumer.assigned == [{}]


def test_a_position_out_of_range_begins_another_epoch(harness: Harness) -> None:
    """Wherever reading had got to; only a start offset breaks its partition."""
    harness.assignment.assign([FIRST])
    epoch = harness.assignment.epoch
    harness.assignment.reject_position(FIRST, 1_000_000)
    assert harness.assignment.epoch > epoch
    assert FIRST not in harness.quarantine


def test_a_start_offset_out_of_range_concerns_its_partition(harness: Harness) -> None:
    """The others are read on, and the next commit flags the offset, once."""
    harness.assignment.assign([FIRST, SECOND])
    harness.assignment.reject_position(FIRST, 7)
    harness.assignment.restart()
    assert harness.consumer.assigned[-1] == {SECOND: 7}
    assert harness.registry.partitions() == [(*FIRST, Defect.OFFSET_OUT_OF_RANGE)]
    harness.assignment.handled(record(SECOND, 8))
    first, second = sorted(harness.assignment.next_offsets(), key=lambda tp: tp.partition)
    assert (first.offset, first.metadata) == (7, "!offset_out_of_range ")
    assert (second.offset, second.metadata) == (9, "")
    harness.assignment.committed()
    assert harness.next_offsets() == {SECOND: 9}


def test_a_partition_that_breaks_keeps_its_whole_decisions(harness: Harness) -> None:
    """Its flagged offset is the one after them."""
    harness.assignment.assign([FIRST])
    harness.assignment.handled(record(FIRST, 8))
    harness.assignment.quarantine(PartitionBroken(FIRST, Defect.RESULTS_MISSING))
    (first,) = harness.assignment.next_offsets()
    assert (first.offset, first.metadata) == (9, "!results_missing ")


def test_a_partition_that_breaks_in_an_aborted_transaction_keeps_its_committed_offset(
    harness: Harness,
) -> None:
    harness.assignment.assign([FIRST])
    harness.assignment.handled(record(FIRST, 8))
    harness.assignment.quarantine(PartitionBroken(FIRST, Defect.WRITE_REFUSED))
    harness.assignment.restart()
    assert harness.consumer.assigned[-1] == {}
    (first,) = harness.assignment.next_offsets()
    assert (first.offset, first.metadata) == (7, "!write_refused ")


def test_a_quarantined_partition_is_tried_again(harness: Harness) -> None:
    """After pauses that grow; it is reported once, until it has been read for a while."""
    broken = PartitionBroken(FIRST, Defect.NO_COMMITTED_OFFSET)
    harness.start_offsets.broken = [broken]
    harness.assignment.assign([FIRST, SECOND])
    assert harness.consumer.assigned == [{SECOND: 7}]
    pauses_s = []
    for _ in range(6):
        before_s = harness.now_s
        while not harness.quarantine.begin_trials():
            harness.now_s += FIRST_PAUSE_S
        pauses_s.append(harness.now_s - before_s)
        harness.assignment.restart()
    assert pauses_s == [FIRST_PAUSE_S * each for each in (1, 2, 4, 8, 12, 12)]
    assert pauses_s[-1] == MAX_PAUSE_S
    harness.start_offsets.broken = []
    harness.now_s += MAX_PAUSE_S
    assert harness.quarantine.begin_trials()
    harness.assignment.restart()
    assert harness.consumer.assigned[-1] == {FIRST: 7, SECOND: 7}
    assert harness.registry.partitions() == [(*FIRST, Defect.NO_COMMITTED_OFFSET)]
    harness.now_s += TRIAL_S
    harness.quarantine.begin_trials()
    assert harness.registry.partitions() == []


def test_a_postponed_partition_is_not_reported(harness: Harness) -> None:
    harness.start_offsets.postponed = [FIRST]
    harness.assignment.assign([FIRST, SECOND])
    assert harness.consumer.assigned == [{SECOND: 7}]
    assert harness.registry.partitions() == []
    harness.now_s += FIRST_PAUSE_S
    assert harness.quarantine.begin_trials()


def test_a_revocation_ends_quarantines(harness: Harness) -> None:
    """The next owner reports for itself."""
    harness.start_offsets.broken = [PartitionBroken(FIRST, Defect.UNREADABLE_MARK)]
    harness.assignment.assign([FIRST])
    assert len(harness.registry.partitions()) == 1
    harness.assignment.revoke()
    assert harness.registry.partitions() == []
    assert FIRST not in harness.quarantine
