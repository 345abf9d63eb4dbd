"""A local view of compacted topics, with a provable freshness mark.

`mark()` asks the brokers how far the topics reach now; once `behind(mark)` is false, the
view has applied every record that was acknowledged before the question was asked.

* The mark is the high watermark, and the view reads uncommitted: what is written to these
  topics are single records outside transactions, and one that was acknowledged must never
  be hidden behind somebody's open transaction.
* A record counts as applied once the caller's function has returned.
* The question is one ListOffsets for all partitions (0.6 to 0.8 ms measured).
  `Consumer.get_watermark_offsets` takes 2 s beside a running fetch, and is not used.

One thread; the view reads only while one of its methods runs.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition, Record

Mark = Mapping[Partition, int]
"""Per partition the offset behind the last record that counts."""

_NO_MATTER = {
    KafkaError._PARTITION_EOF,
    # librdkafka looks for the group's coordinator although the group is never joined; a role
    # that reads only through views needs no right to any group.
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


class CompactedView:
    """Reads topics from their beginning and hands every record to `apply`, in order."""

    def __init__(
        self,
        *,
        connection: Connection,
        topics: Mapping[str, int],
        apply: Callable[[Record], None],
        only: Callable[[Partition], bool] = lambda _partition: True,
    ) -> None:
        """`topics`: their partition counts; `only` picks some of the partitions."""
        self._watch = ClientErrorState()
        self._offsets = OffsetQueries(Admin(connection))
        self._lifeline = BrokerLossDetector(connection, self._watch)
        self._settings = connection.settings(
            self._watch,
            group_id=connection.role,  # never joined: partitions are assigned
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="earliest",
            isolation_level="read_uncommitted",
            fetch_wait_max_ms=100,
            fetch_error_backoff_ms=50,
            # The bound on bytes counts keys and values; beside them every record that waits
            # costs librdkafka some 300 bytes of its own, so their number is bounded, too.
            queued_max_messages_kbytes=16_384,
            queued_min_messages=5_000,
            # How soon fetching goes on after the queue was full; the default is a second.
            fetch_queue_backoff_ms=5,
        )
        self._consumer = Consumer(self._settings)
        everything = (Partition(t, n) for t, count in topics.items() for n in range(count))
        self.begin(filter(only, everything), apply)

    def begin(
        self,
        partitions: Iterable[Partition],
        apply: Callable[[Record], None],
        *,
        start: Mark | None = None,
    ) -> None:
        """Read these, and no others, as a new view would, with the same clients.

        From their beginning, or from `start`, which then names all of them.
        """
        self._apply = apply
        self._asked = list(partitions)
        first = start or (self._offsets.log_starts(self._asked) if self._asked else {})
        self._applied = dict(first)
        self._assign()

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(*at, offset) for at, offset in self._applied.items()])

    def rest(self) -> None:
        """Read nothing, and keep nothing, until the next `begin`."""
        self._consumer.unassign()
        self._apply, self._asked, self._applied = _nothing, [], {}

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """How far the topics reach now.  Raises `Unavailable` if a leader does not answer."""
        return self._offsets.log_ends(self._asked, timeout_s=timeout_s)

    @property
    def applied(self) -> Mark:
        """Per partition the offset behind the last record that was applied."""
        return self._applied

    def read(self, timeout_s: float) -> int:
        """Apply what is there, waiting up to the timeout for the first record."""
        first = self._consumer.poll(timeout_s)
        if first is None:
            return 0
        # Not `consume` alone, which waits for as many as it was asked for.
        messages = [first, *self._consumer.consume(1000, 0)]
        messages.reverse()
        count = 0
        while messages:
            # Let go one by one: looking after the headers of a thousand takes the garbage
            # collector as long as half of all the rest (measured).
            message = messages.pop()
            error = message.error()
            if error is not None:
                if error.code() in _NO_MATTER:
                    continue
                if not isinstance(translate(error), Unavailable):
                    raise translate(error, "reading the view")
                self._watch(error)
                continue
            record = Record.of(message)
            self._apply(record)
            self._applied[record.at] = record.offset + 1
            count += 1
        return count

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply until nothing below the mark is missing; `Unavailable` after the deadline."""
        end = time.monotonic() + deadline_s
        while any(self._applied[at] < offset for at, offset in mark.items()):
            if not self.read(0.05) and not self._settled(mark) and time.monotonic() > end:
                trouble = self._watch.explain("the view is behind its mark")
                self._mend()
                raise trouble

    def catch_up_with_known(self, *, deadline_s: float) -> set[Partition]:
        """Apply all that was acknowledged before this call, where the leader answers.

        Which partitions these are.  One that is away holds up the others for half of the time,
        by a question of its own to each leader.
        """
        mark = self._offsets.known_log_ends(self._asked, timeout_s=deadline_s / 2)
        end = time.monotonic() + deadline_s / 2
        while not self._settled(mark) and time.monotonic() < end:
            self.read(0.05)
        self._mend()
        return {at for at, offset in mark.items() if self._applied[at] >= offset}

    def _mend(self) -> None:
        """Go on with another client if this one is lost."""
        if self._lifeline.is_lost(self._consumer):
            self._consumer = Consumer(self._settings)
            self._assign()

    def _settled(self, mark: Mark) -> bool:
        """Whether what is missing are offsets that hold no record any more (compacted away)."""
        asked = [TopicPartition(*at) for at in self._asked]
        for tp in self._consumer.position(asked):
            at = Partition(tp.topic, tp.partition)
            self._applied[at] = max(self._applied[at], tp.offset)
        return all(self._applied[at] >= offset for at, offset in mark.items())

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


def _nothing(_record: Record) -> None:
    """A view that rests applies nothing."""
