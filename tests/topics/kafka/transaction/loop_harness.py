"""A loop with a scripted handler on a real broker, by a clock of the test's own."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Producer

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Outgoing, Partition, Record
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
    can_decide: Callable[[Partition], bool] = lambda _: True
    handled: list[bytes] = field(default_factory=list)
    marks: dict[Partition, int] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now_s

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        self.marks = {at: start.offset for at, start in starts.items()}

    def on_read(self, partitions: Collection[Partition]) -> None:
        assert partitions <= self.marks.keys()

    def is_ready(self, at: Partition) -> bool:
        return self.can_decide(at)

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
        self.quarantine = QuarantineRegistry()
        self.loop: TransactionalLoop | None = None

    def produce(self, *values: bytes, partition: int = 0) -> None:
        """Append these to one partition, in one batch."""
        for value in values:
            self._producer.produce(cutouts_of(self._lane), value, None, partition)
        assert self._producer.flush(20) == 0

    def start(self, *, interval_s: float, has_follow_ups: bool = False) -> TransactionalLoop:
        loop = self.loop = TransactionalLoop(
            connection=self._kafka.connection(ROUTER),
            topics=[cutouts_of(self._lane)],
            instance="test",
            handler=self.handler,
            stopping=threading.Event(),
            listener=self.quarantine,
            interval_s=interval_s,
            has_follow_ups=has_follow_ups,
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

    def run_until(self, condition: Callable[[], object]) -> None:
        """Run the loop until the condition is true."""
        loop = self.loop
        assert loop

        def is_true_after_a_round() -> bool:
            loop.run_once()
            return bool(condition())

        eventually("the loop does it", is_true_after_a_round, poll_s=0)

    @property
    def loop_is_open(self) -> bool:
        assert self.loop
        return self.loop.is_open

    def committed_offset(self) -> tuple[int, str]:
        """Return what the group has committed for the first partition."""
        at = Partition(cutouts_of(self._lane), 0)
        return self._kafka.groups.committed(ROUTER, [at])[at]

    def committed(self) -> list[bytes]:
        """Return what a read-committed reader sees now."""
        return [record.value for record in self.committed_records()]

    def committed_records(self) -> list[Record]:
        """Return the records of it."""
        topic = ephemeral_of(self._lane)
        reader = TopicReader(self._kafka.cluster, ADMIN, topic, PARTITIONS, COMMITTED)
        try:
            return reader.read_to_end()
        finally:
            reader.close()

    def await_committed(self, values: list[bytes]) -> None:
        """Wait: a commit is answered a moment before its markers are in all partitions."""
        eventually("it is committed", lambda: self.committed() == values)

    def close(self) -> None:
        if self.loop:
            self.loop.close()
