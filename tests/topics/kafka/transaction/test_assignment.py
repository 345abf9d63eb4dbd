"""The rules of an assignment, with a consumer and start offsets in memory."""

from collections.abc import Iterable, Mapping

import pytest
from confluent_kafka import TopicPartition

from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.start_offsets import StaleGeneration, StartOffset
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

    def find(self, partitions: Iterable[Partition]) -> dict[Partition, StartOffset]:
        if self.is_stale:
            raise StaleGeneration("REBALANCE_IN_PROGRESS")
        return {at: StartOffset(self.offset, "") for at in partitions}


class Harness:
    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.start_offsets = FakeStartOffsets()
        self.assignment = Assignment(
            consumer=self.consumer,  # type: ignore[arg-type]
            start_offsets=self.start_offsets,  # type: ignore[arg-type]
            handler=CopyHandler("ephemeral.shop"),
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


def test_a_start_offset_out_of_range_stops_the_process(harness: Harness) -> None:
    harness.assignment.assign([FIRST])
    epoch = harness.assignment.epoch
    harness.assignment.reject_position(FIRST, 1_000_000)
    assert harness.assignment.epoch > epoch
    with pytest.raises(InvariantBroken, match="not there any more"):
        harness.assignment.reject_position(FIRST, 7)
