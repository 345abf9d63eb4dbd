"""Bounds of the exactly-once loop: the age of decisions, half decisions, and pauses."""

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of
from erasestream.topics.kafka.backoff import Backoff, pause_s
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.batch import MAX_OPEN_S
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import (
    StaleGeneration,
    StartOffset,
    StartOffsets,
)
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.kafka.transaction.copy_handler import CopyHandler

VALUES = [b"one", b"two", b"three", b"four", b"five"]


@pytest.fixture
def harness(kafka: KafkaFixture, lane: Lane) -> Iterator[KafkaRouterHarness]:
    """Return a lane with records to read."""
    harness = KafkaRouterHarness(kafka, lane)
    producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState()))
    for value in VALUES:
        producer.produce(cutouts_of(lane), value, None, 0)
    assert producer.flush(20) == 0
    yield harness
    harness.close()


class FakeClock:
    """Shows the same time until the test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def started_loop(
    harness: KafkaRouterHarness, handler: CopyHandler, *, clock: FakeClock | None = None
) -> TransactionalLoop:
    loop = TransactionalLoop(
        connection=harness.kafka.connection(ROUTER),
        topics=[cutouts_of(harness.lane)],
        instance=f"of-{harness.lane}",
        handler=handler,
        stopping=threading.Event(),
        listener=QuarantineRegistry(),
        clock=clock or FakeClock(),
    )
    loop.start()
    return loop


def run_until_all_are_handled(loop: TransactionalLoop, handler: CopyHandler) -> None:
    def all_are_handled() -> bool:
        loop.run_once()
        return VALUES[-1] in handler.handled

    eventually("all are handled", all_are_handled, poll_s=0)


class SlowHandler(CopyHandler):
    """Takes longer for each record than a transaction may be open."""

    def __init__(self, to: str, clock: FakeClock) -> None:
        super().__init__(to)
        self.ages_s: list[float] = []
        self._clock = clock
        self._asked_s = 0.0

    def is_ready(self, at: Partition) -> bool:
        self._asked_s = self._clock()
        return super().is_ready(at)

    def on_half_decided(self, record: Record) -> None:
        assert record.value
        self.ages_s.append(self._clock() - self._asked_s)
        self._clock.now_s += MAX_OPEN_S + 1


def test_no_decision_is_much_older_than_its_readiness(harness: KafkaRouterHarness) -> None:
    """The loop commits during a read and asks again, for every record if need be."""
    clock = FakeClock()
    handler = SlowHandler(ephemeral_of(harness.lane), clock)
    loop = started_loop(harness, handler, clock=clock)
    try:
        run_until_all_are_handled(loop, handler)
    finally:
        loop.close()
    assert max(handler.ages_s) <= MAX_OPEN_S
    assert [record.value for record in harness.records(ephemeral_of(harness.lane), 2)] == VALUES


class BrokenHandler(CopyHandler):
    """Fails once half of a decision is made, after whole ones."""

    def on_half_decided(self, record: Record) -> None:
        if record.value == VALUES[2]:
            raise InvariantBroken("on purpose")


def test_half_a_decision_is_never_committed(harness: KafkaRouterHarness) -> None:
    """A successor decides the record again, from the committed offset that names the defect."""
    broken = BrokenHandler(ephemeral_of(harness.lane))
    loop = started_loop(harness, broken)

    def are_whole_ones_committed() -> bool:
        loop.run_once()
        return loop.counters.records == 2

    eventually("whole decisions are committed", are_whole_ones_committed, poll_s=0)
    loop.close()
    committed = [record.value for record in harness.records(ephemeral_of(harness.lane), 2)]
    assert committed == VALUES[:2]
    handler = CopyHandler(ephemeral_of(harness.lane))
    successor = started_loop(harness, handler)
    try:
        run_until_all_are_handled(successor, handler)
    finally:
        successor.close()
    assert handler.handled == VALUES[2:]
    assert [record.value for record in harness.records(ephemeral_of(harness.lane), 2)] == VALUES


def test_a_position_out_of_range_restarts_reading(harness: KafkaRouterHarness) -> None:
    """From the start offsets; no record is lost or repeated."""
    handler = CopyHandler(ephemeral_of(harness.lane))
    loop = started_loop(harness, handler)

    def has_partitions() -> bool:
        loop.run_once()
        return loop.has_partitions

    try:
        eventually("it has partitions", has_partitions, poll_s=0)
        assert handler.handled == []
        at = Partition(cutouts_of(harness.lane), 0)
        loop._clients.consumer.assign({at: StartOffset(1_000_000, "")})
        run_until_all_are_handled(loop, handler)
    finally:
        loop.close()
    assert handler.handled == VALUES
    assert [record.value for record in harness.records(ephemeral_of(harness.lane), 2)] == VALUES


class RecordedPauses(threading.Event):
    """Is never set, records its waits, and takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout)
        return False


def test_pauses_grow_with_aborts_in_a_row(harness: KafkaRouterHarness) -> None:
    pauses = RecordedPauses()
    handler = CopyHandler(ephemeral_of(harness.lane))
    loop = started_loop(harness, handler)
    loop._batch._writer._backoff = Backoff(stopping=pauses)
    producer = loop._clients.producer
    commit, failures = producer.commit, [1, 2, 3, 4, 5]

    def fail(offsets: list[TopicPartition], consumer: Consumer) -> None:
        if failures:
            failures.pop()
            raise AbortRequired(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        commit(offsets, consumer)

    producer.commit = fail  # type: ignore[method-assign]

    def all_are_committed() -> bool:
        loop.run_once()
        return loop.counters.records == len(VALUES)

    try:
        eventually("all are committed", all_are_committed, deadline_s=60, poll_s=0)
    finally:
        loop.close()
    assert pauses.waits_s == [pause_s(number) for number in range(1, 6)]
    assert [record.value for record in harness.records(ephemeral_of(harness.lane), 2)] == VALUES


class StaleConsumer:
    """The part of a consumer that `StartOffsets` uses, after the group has rebalanced."""

    def __init__(self, code: int) -> None:
        self._error = KafkaError(code)

    def committed(self, asked: list[TopicPartition], _timeout_s: float) -> list[TopicPartition]:
        return asked

    def commit(self, **_: object) -> list[TopicPartition]:
        raise KafkaException(self._error)


@pytest.mark.parametrize("code", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID])
def test_a_rebalance_before_a_partition_starts_is_no_fault(code: int, kafka: KafkaFixture) -> None:
    """The member joins again."""
    starts = StartOffsets(
        consumer=StaleConsumer(code),  # type: ignore[arg-type]
        offsets=kafka.offsets,
        initial_offset=lambda _at: StartOffset(0, ""),
        stopping=threading.Event(),
        errors=ClientErrorState(),
    )
    with pytest.raises(StaleGeneration):
        starts.find([Partition("cutouts.any", 0)])
