"""When a transaction begins and ends: on a real broker, by a clock of the test's own."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Producer

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction import consumer
from erasestream.topics.kafka.transaction.batch import MAX_OPEN_S
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.flow.topic_reader import COMMITTED, TopicReader
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture

NEVER_S = 1e9


@dataclass
class ScriptedHandler:
    """Copies every record, and calls what the test sets."""

    to: str
    now_s: float = 0.0
    before: Callable[[Record], object] = lambda _: None
    can_decide: Callable[[], bool] = lambda: True
    on_wait: Callable[[], object] = lambda: None
    handled: list[bytes] = field(default_factory=list)
    marks: dict[Partition, int] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now_s

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        self.marks = {at: start.offset for at, start in starts.items()}

    def is_ready(self) -> bool:
        return self.can_decide()

    def wait_until_ready(self) -> None:
        self.on_wait()

    def handle(self, record: Record) -> Iterable[Outgoing]:
        self.before(record)
        self.handled.append(record.value)
        self.marks[record.at] = record.offset
        yield Outgoing(self.to, record.at.number, None, record.headers, record.value)

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """Not needed: provisioning, or a router, committed one for every partition."""
        return StartOffset(0, f"initial offset of {at}")

    def offset_metadata(self, at: Partition) -> str:
        return f"{self.marks[at]}"


class LoopHarness:
    """A lane, a loop over its cut-outs, and the records that a customer sees."""

    def __init__(self, kafka: KafkaFixture, lane: Lane) -> None:
        self._kafka = kafka
        self._lane = lane
        self._producer = Producer(
            kafka.connection(ADMIN).settings(ClientErrorState(), linger_ms=50)
        )
        self.handler = ScriptedHandler(ephemeral_of(lane))
        self.loop: TransactionalLoop | None = None

    def produce(self, *values: bytes) -> None:
        """Append these to one partition, in one batch."""
        for value in values:
            self._producer.produce(cutouts_of(self._lane), value, None, 0)
        assert self._producer.flush(20) == 0

    def start(self, *, interval_s: float) -> TransactionalLoop:
        loop = self.loop = TransactionalLoop(
            connection=self._kafka.connection(ROUTER),
            topics=[cutouts_of(self._lane)],
            instance="test",
            handler=self.handler,
            stopping=threading.Event(),
            interval_s=interval_s,
            clock=self.handler.clock,
        )
        loop.start()
        return loop

    def run_until_handled(self, count: int) -> None:
        """Run the loop, and stop right after the read with which this many are handled."""
        loop = self.loop
        assert loop

        def are_handled() -> bool:
            loop.run_once()
            return len(self.handler.handled) >= count

        eventually(f"{count} are handled", are_handled, poll_s=0)

    def committed(self) -> list[bytes]:
        """Return what a read-committed reader sees now."""
        topic = ephemeral_of(self._lane)
        reader = TopicReader(self._kafka.cluster, ADMIN, topic, PARTITIONS, COMMITTED)
        try:
            return [record.value for record in reader.read_to_end()]
        finally:
            reader.close()

    def await_committed(self, values: list[bytes]) -> None:
        """Wait: a commit is answered a moment before its markers are in all partitions."""
        eventually("it is committed", lambda: self.committed() == values)

    def close(self) -> None:
        if self.loop:
            self.loop.close()


@pytest.fixture
def harness(kafka: KafkaFixture, lane: Lane) -> Iterator[LoopHarness]:
    harness = LoopHarness(kafka, lane)
    yield harness
    harness.close()


def test_commits_when_the_input_is_drained(harness: LoopHarness) -> None:
    """Whatever the clock: a read that finds nothing ends the transaction, and none before it."""
    harness.produce(b"1", b"2", b"3")
    loop = harness.start(interval_s=NEVER_S)
    harness.run_until_handled(3)
    assert loop.counters.committed == 0
    assert harness.committed() == []
    assert loop.run_once() == 0
    assert loop.counters.committed == 1
    harness.await_committed([b"1", b"2", b"3"])


def test_commits_after_the_interval(harness: LoopHarness) -> None:
    """Although there is more to read."""
    handler = harness.handler
    handler.before = lambda _: setattr(handler, "now_s", handler.now_s + 0.1)
    harness.produce(b"1")
    loop = harness.start(interval_s=0.1)
    harness.run_until_handled(1)
    assert loop.counters.committed == 1
    harness.await_committed([b"1"])


def test_commits_during_a_read_whose_records_take_long(harness: LoopHarness) -> None:
    """No transaction is open for longer than its bound."""
    ages_s: list[float] = []

    def take_long(_: Record) -> None:
        assert harness.loop
        assert harness.loop.is_open
        ages_s.append(harness.loop._transaction.age_s)
        harness.handler.now_s += 2.0

    harness.handler.before = take_long
    values = [f"{number}".encode() for number in range(12)]
    harness.produce(*values)
    loop = harness.start(interval_s=NEVER_S)
    harness.run_until_handled(12)
    assert max(ages_s) == 4.0 <= MAX_OPEN_S
    assert loop.counters.committed == 3
    harness.await_committed(values[:9])
    loop.run_once()
    harness.await_committed(values)


def test_commits_before_it_waits(harness: LoopHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the handler waits no transaction is open, and the customer has earlier decisions."""
    monkeypatch.setattr(consumer, "SMALL_READ", 1)
    waits: list[int] = []

    def wait() -> None:
        assert harness.loop
        assert not harness.loop.is_open
        harness.await_committed([b"1"])
        waits.append(harness.loop.counters.committed)

    harness.handler.can_decide = lambda: len(harness.handler.handled) != 1
    harness.handler.on_wait = wait
    harness.produce(b"1", b"2", b"3")
    harness.start(interval_s=NEVER_S)
    harness.run_until_handled(3)
    assert waits == [1]


def test_an_unavailable_dependency_aborts_the_transaction(harness: LoopHarness) -> None:
    """All decisions since the last commit are undone and made again."""
    failures = [True]

    def fail_once(record: Record) -> None:
        if record.value == b"3" and failures:
            failures.clear()
            raise Unavailable("an original")

    harness.handler.before = fail_once
    harness.produce(b"1", b"2", b"3")
    loop = harness.start(interval_s=NEVER_S)
    harness.run_until_handled(5)
    loop.run_once()
    assert harness.handler.handled == [b"1", b"2", b"1", b"2", b"3"]
    harness.await_committed([b"1", b"2", b"3"])


def test_a_record_that_is_too_large_aborts_the_transaction(harness: LoopHarness) -> None:
    """The library would commit without it; neither records nor offsets are committed."""
    handler = harness.handler
    copy = handler.handle

    def too_large(record: Record) -> Iterable[Outgoing]:
        for outgoing in copy(record):
            is_second = record.value == b"2"
            yield outgoing._replace(value=bytes(70_000_000)) if is_second else outgoing

    handler.handle = too_large  # type: ignore[method-assign]
    harness.produce(b"1", b"2", b"3")
    loop = harness.start(interval_s=NEVER_S)

    def is_aborted() -> bool:
        loop.run_once()
        return handler.handled.count(b"2") == 1

    eventually("the large one is tried", is_aborted, poll_s=0)
    assert harness.committed() == []
    handler.handle = copy  # type: ignore[method-assign]
    harness.run_until_handled(5)
    loop.run_once()
    harness.await_committed([b"1", b"2", b"3"])
