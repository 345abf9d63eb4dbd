"""Bounds of the exactly-once loop: the age of decisions, half decisions, and pauses."""

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from erasestream.schemas.errors import InvariantBroken, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of
from erasestream.topics.kafka.backoff import Backoff, pause_s
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.batch import MAX_OPEN_S
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

    def is_ready(self) -> bool:
        self._asked_s = self._clock()
        return super().is_ready()

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
    """Fails once half of a decision is written, after whole ones."""

    def on_half_decided(self, record: Record) -> None:
        if record.value == VALUES[2]:
            raise InvariantBroken("on purpose")


def test_half_a_decision_is_never_committed(harness: KafkaRouterHarness) -> None:
    """Not by closing in good order after an unexpected error either."""
    broken = BrokenHandler(ephemeral_of(harness.lane))
    loop = started_loop(harness, broken)
    with pytest.raises(InvariantBroken, match="on purpose"):
        run_until_all_are_handled(loop, broken)
    loop.close()
    committed = [record.value for record in harness.records(ephemeral_of(harness.lane), 2)]
    assert VALUES[2] not in committed
    handler = CopyHandler(ephemeral_of(harness.lane))
    successor = started_loop(harness, handler)
    try:
        run_until_all_are_handled(successor, handler)
    finally:
        successor.close()
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
        out_of_range = TopicPartition(cutouts_of(harness.lane), 0, 1_000_000)
        loop._clients.consumer.client.assign([out_of_range])
        run_until_all_are_handled(loop, handler)
    finally:
        loop.close()
    assert handler.handled == VALUES
    assert [record.value for record in harness.records(ephemeral_of(harness.lane), 2)] == VALUES


class UnavailableHandler(CopyHandler):
    """Cannot decide one record for a while."""

    def __init__(self, to: str, failures: int) -> None:
        super().__init__(to)
        self._failures = failures

    def on_half_decided(self, record: Record) -> None:
        if record.value == VALUES[2] and self._failures:
            self._failures -= 1
            raise Unavailable("on purpose")


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
    handler = UnavailableHandler(ephemeral_of(harness.lane), failures=5)
    loop = started_loop(harness, handler)
    loop._batch._backoff = Backoff(stopping=pauses)
    try:
        run_until_all_are_handled(loop, handler)
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
