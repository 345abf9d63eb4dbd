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
from erasestream.topics.kafka.transaction import loop
from erasestream.topics.kafka.transaction.loop import MAX_OPEN_S, TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.flow.topic_reader import COMMITTED, TopicReader
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture, opened_kafka

NEVER_S = 1e9


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """A broker of this module's own: nobody else is in the group."""
    with opened_kafka(tmp_path_factory.mktemp("transaction")) as kafka:
        yield kafka


@dataclass
class Copy:
    """A handler that copies every record, and does what the test wants before."""

    to: str
    now: float = 0.0
    before: Callable[[Record], object] = lambda _: None
    can_decide: Callable[[], bool] = lambda: True
    on_wait: Callable[[], object] = lambda: None
    handled: list[bytes] = field(default_factory=list)
    marks: dict[Partition, int] = field(default_factory=dict)

    def clock(self) -> float:
        """Time as the test has it."""
        return self.now

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Begin there."""
        self.marks = {at: start.offset for at, start in starts.items()}

    def is_ready(self) -> bool:
        """As the test says."""
        return self.can_decide()

    def wait_until_ready(self) -> None:
        """As the test says."""
        self.on_wait()

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """Copy it."""
        self.before(record)
        self.handled.append(record.value)
        self.marks[record.at] = record.offset
        yield Outgoing(self.to, record.at.number, None, record.headers, record.value)

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """None is needed: provisioning or a router began all of them."""
        return StartOffset(0, f"begun {at}")

    def offset_metadata(self, at: Partition) -> str:
        """What was handled last."""
        return f"{self.marks[at]}"


class LoopHarness:
    """A lane, a loop over its cut-outs, and what the customer sees."""

    def __init__(self, kafka: KafkaFixture, lane: Lane) -> None:
        self._kafka = kafka
        self._lane = lane
        self._producer = Producer(
            kafka.connection(ADMIN).settings(ClientErrorState(), linger_ms=50)
        )
        self.handler = Copy(ephemeral_of(lane))
        self.loop: TransactionalLoop | None = None

    def write(self, *values: bytes) -> None:
        """Into one partition, in one batch."""
        for value in values:
            self._producer.produce(cutouts_of(self._lane), value, None, 0)
        assert self._producer.flush(20) == 0

    def run(self, *, interval_s: float) -> TransactionalLoop:
        """Start the loop, and wait until it has its partitions."""
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
        """Turn, and stop right after the read with which so many are handled."""
        loop = self.loop
        assert loop

        def handled() -> bool:
            loop.run_once()
            return len(self.handler.handled) >= count

        eventually(f"{count} are handled", handled, poll_s=0)

    def seen(self) -> list[bytes]:
        """What a read-committed reader sees now."""
        topic = ephemeral_of(self._lane)
        reader = TopicReader(self._kafka.cluster, ADMIN, topic, PARTITIONS, COMMITTED)
        try:
            return [record.value for record in reader.read_to_end()]
        finally:
            reader.close()

    def await_seen(self, values: list[bytes]) -> None:
        """A commit is over a moment before the readers of all partitions are told."""
        eventually("it is seen", lambda: self.seen() == values)

    def close(self) -> None:
        """Leave."""
        if self.loop:
            self.loop.close()


@pytest.fixture
def world(kafka: KafkaFixture, lane: Lane) -> Iterator[LoopHarness]:
    """Of this test's own."""
    world = LoopHarness(kafka, lane)
    yield world
    world.close()


def test_committed_when_the_input_is_drained(world: LoopHarness) -> None:
    """By no clock: a read that finds nothing ends the transaction, and not one before it."""
    world.write(b"1", b"2", b"3")
    loop = world.run(interval_s=NEVER_S)
    world.run_until_handled(3)
    assert loop.counters.committed == 0
    assert world.seen() == []
    assert loop.run_once() == 0
    assert loop.counters.committed == 1
    world.await_seen([b"1", b"2", b"3"])


def test_committed_when_it_was_open_for_the_interval(world: LoopHarness) -> None:
    """Although there is more to read."""
    world.handler.before = lambda _: setattr(world.handler, "now", world.handler.now + 0.1)
    world.write(b"1")
    loop = world.run(interval_s=0.1)
    world.run_until_handled(1)
    assert loop.counters.committed == 1
    world.await_seen([b"1"])


def test_no_transaction_is_open_for_longer_than_its_bound(world: LoopHarness) -> None:
    """Not even within one small read whose records take long: it is committed in the midst."""
    ages: list[float] = []

    def take_long(_: Record) -> None:
        assert world.loop
        opened_at = world.loop._opened_at
        assert opened_at is not None
        ages.append(world.handler.now - opened_at)
        world.handler.now += 2.0

    world.handler.before = take_long
    values = [f"{number}".encode() for number in range(12)]
    world.write(*values)
    loop = world.run(interval_s=NEVER_S)
    world.run_until_handled(12)
    assert max(ages) == 4.0 <= MAX_OPEN_S
    assert loop.counters.committed == 3
    world.await_seen(values[:9])
    loop.run_once()
    world.await_seen(values)


def test_what_is_decided_is_committed_before_anything_is_waited_for(
    world: LoopHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits no transaction is open, and the customer has what was decided."""
    monkeypatch.setattr(loop, "SMALL_READ", 1)
    waits: list[int] = []

    def wait() -> None:
        assert world.loop
        assert world.loop._opened_at is None
        world.await_seen([b"1"])
        waits.append(world.loop.counters.committed)

    world.handler.can_decide = lambda: len(world.handler.handled) != 1
    world.handler.on_wait = wait
    world.write(b"1", b"2", b"3")
    world.run(interval_s=NEVER_S)
    world.run_until_handled(3)
    assert waits == [1]


def test_half_a_decision_is_none(world: LoopHarness) -> None:
    """What a record needs is away: all since the last commit is undone and handled again."""
    away = [True]

    def once(record: Record) -> None:
        if record.value == b"3" and away:
            away.clear()
            raise Unavailable("an original")

    world.handler.before = once
    world.write(b"1", b"2", b"3")
    loop = world.run(interval_s=NEVER_S)
    world.run_until_handled(5)
    loop.run_once()
    assert world.handler.handled == [b"1", b"2", b"1", b"2", b"3"]
    world.await_seen([b"1", b"2", b"3"])


def test_a_record_that_is_too_large_undoes_all(world: LoopHarness) -> None:
    """The library would commit the transaction without it; nothing of it is seen, nor its place."""
    handler = world.handler
    honest = handler.handle

    def too_large(record: Record) -> Iterable[Outgoing]:
        for outgoing in honest(record):
            is_second = record.value == b"2"
            yield outgoing._replace(value=bytes(70_000_000)) if is_second else outgoing

    handler.handle = too_large  # type: ignore[method-assign]
    world.write(b"1", b"2", b"3")
    loop = world.run(interval_s=NEVER_S)

    def is_undone() -> bool:
        loop.run_once()
        return handler.handled.count(b"2") == 1

    eventually("the large one is tried", is_undone, poll_s=0)
    assert world.seen() == []
    handler.handle = honest  # type: ignore[method-assign]
    world.run_until_handled(5)
    loop.run_once()
    world.await_seen([b"1", b"2", b"3"])
