"""A local view of compacted topics, with a provable freshness mark.

`mark()` asks the brokers for the end offsets; once the view has caught up with the mark, it has
applied every record that was acknowledged before the request.

* The mark is the high watermark, and the view reads uncommitted: these topics hold single records
  outside transactions, and an acknowledged one must never be hidden behind an open transaction.
* A record counts as applied once the caller's function has returned.
* The view is never ahead of the log: a record is applied whatever offset it claims, since the order
  of the records is the broker's; but an offset at or beyond the end that the leader reported
  advances nothing, and is reported (`reported_end.py`).
* The mark is one ListOffsets for all partitions (0.6 to 0.8 ms measured).
  `Consumer.get_watermark_offsets` takes 2 s beside a running fetch, and is not used.

One thread; the view reads only while one of its methods runs.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import MissingTopic, Unavailable
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.consumer.reassign import reassign
from erasestream.topics.kafka.consumer.reported_end import ReportedEnds
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition, Record

Mark = Mapping[Partition, int]
"""Per partition the offset after the last record that counts."""

MAX_READ = 100
"""Records that are applied at once: a flood in one lane delays what waits for other lanes' by so
many."""
POLL_S = 0.05
STUCK_S = 0.2
"""Longest wait for the end offset of a partition that was not reached before."""

FETCH_WAIT_MS = 500
"""A new record ends the wait; only a view that is assigned other partitions waits for its end."""

_IGNORED = {
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
        fetch_wait_ms: int = FETCH_WAIT_MS,
    ) -> None:
        """`topics`: their partition counts; `only` selects some of the partitions.

        `fetch_wait_ms`: how long a request waits at a broker that has no new record.
        """
        self._errors = ClientErrorState()
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._settings = _settings(connection, self._errors, fetch_wait_ms)
        everything = (Partition(t, n) for t, count in topics.items() for n in range(count))
        with ExitStack() as opened:
            self._admin = opened.enter_context(Admin(connection))
            self._offsets = OffsetQueries(self._admin)
            self._consumer = Consumer(self._settings)
            opened.callback(self._consumer.close)
            self.assign(filter(only, everything), apply)
            opened.pop_all()

    def assign(
        self,
        partitions: Iterable[Partition],
        apply: Callable[[Record], None],
        *,
        start: Mark | None = None,
    ) -> None:
        """Read these partitions and no others, as a new view would, with the same clients.

        Begins at the log starts, or at `start`, which then names all of them.
        """
        self._apply = apply
        self._partitions = list(partitions)
        self._stuck: set[Partition] = set()
        first = start or (self._offsets.log_starts(self._partitions) if self._partitions else {})
        self._applied = dict(first)
        self._ends = ReportedEnds()
        self._resume()

    def unassign(self) -> None:
        """Read nothing, and keep nothing, until the next `assign`."""
        self._consumer.unassign()
        self._apply, self._partitions, self._applied = _ignore, [], {}

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """Return the end offsets.  Raises `Unavailable` if a leader does not answer."""
        return self._offsets.log_ends(self._partitions, timeout_s=timeout_s)

    def reachable_ends(self, partitions: Iterable[Partition], *, timeout_s: float) -> Mark:
        """Return the end offsets of those of these partitions whose leaders answer in time."""
        asked = list(partitions)
        try:
            return self._offsets.log_ends(asked, timeout_s=timeout_s)
        except (Unavailable, MissingTopic):
            return self._offsets.known_log_ends(asked, timeout_s=timeout_s)

    def reread(self, partitions: Iterable[Partition]) -> None:
        """Read some of the partitions again from the beginning."""
        self._applied |= dict.fromkeys(partitions, 0)
        self._resume()

    @property
    def applied(self) -> Mark:
        """Per partition the offset after the last record that was applied."""
        return self._applied

    @property
    def forged(self) -> AbstractSet[Partition]:
        """Partitions in which a record claimed an offset that cannot be true."""
        return self._ends.forged

    def read(self, timeout_s: float) -> int:
        """Apply what has arrived, waiting up to the timeout for the first record.

        Returns the number of records.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return 0
        # Not `consume` alone, which waits for as many as it was asked for.
        messages = [first, *self._consumer.consume(MAX_READ - 1, 0)]
        messages.reverse()
        count = 0
        while messages:
            # Released one by one: tracking the headers of a thousand takes the garbage collector
            # as long as half of all the rest (measured).
            count += self._take(messages.pop())
        return count

    def advance(self) -> None:
        """Apply what has arrived, and pass offsets without records (compacted); do not wait."""
        if not self.read(0):
            self._pass_gaps()

    def _take(self, message: Message) -> bool:
        """Apply a message's record; return False if it is an error to wait out."""
        error = message.error()
        if error is None:
            record = Record.of(message)
            self._apply(record)
            if self._ends.covers(self._consumer, record.at, record.offset + 1):
                self._applied[record.at] = record.offset + 1
            else:
                self._ends.report(record.at, record.offset)
            return True
        if error.code() not in _IGNORED:
            if not isinstance(translate(error), Unavailable | MissingTopic):
                raise translate(error, "reading the view")
            self._errors(error)
        return False

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply until nothing below the mark is missing; `Unavailable` after the deadline."""
        deadline = Deadline(deadline_s, time.monotonic)
        while any(self._applied[at] < offset for at, offset in mark.items()):
            if not self.read(POLL_S) and not self._has_reached(mark) and deadline.has_passed:
                error = self._errors.explain("the view is behind its mark")
                self._replace_if_lost()
                raise error

    def catch_up_reachable(
        self, partitions: Iterable[Partition], *, deadline_s: float
    ) -> set[Partition]:
        """Apply all that was acknowledged in these before this call, where the leader answers.

        Returns the partitions where that is done.  A partition whose leader does not answer, or
        that makes no progress, delays the others once.  After that it is asked and read, and hardly
        waited for, until it makes some.
        """
        asked = set(partitions)
        awaited = self._ends_of(asked - self._stuck, deadline_s / 2)
        mark = awaited | self._ends_of(asked & self._stuck, STUCK_S)
        before = dict(self._applied)
        deadline = Deadline(deadline_s / 2, time.monotonic)
        self.read(0)
        while not self._has_reached(awaited) and not deadline.has_passed:
            self.read(POLL_S)
        self._replace_if_lost()
        reached = {at for at, offset in mark.items() if self._applied[at] >= offset}
        stuck = {at for at in asked - reached if self._applied[at] == before[at]}
        self._stuck = self._stuck - asked | stuck
        return reached

    def _ends_of(self, partitions: Collection[Partition], timeout_s: float) -> dict[Partition, int]:
        """Return the ends of those whose leaders answer in time."""
        if not partitions:
            return {}
        return self._offsets.known_log_ends(partitions, timeout_s=timeout_s)

    def _has_reached(self, mark: Mark) -> bool:
        """Return whether the mark is reached, also past offsets without records (compacted)."""
        self._pass_gaps()
        return all(self._applied[at] >= offset for at, offset in mark.items())

    def _pass_gaps(self) -> None:
        """Count offsets without records before the consumer's position as applied."""
        asked = [TopicPartition(*at) for at in self._partitions]
        for tp in self._consumer.position(asked):
            at = Partition(tp.topic, tp.partition)
            if tp.offset > self._applied[at] and self._ends.covers(self._consumer, at, tp.offset):
                self._applied[at] = tp.offset

    def _replace_if_lost(self) -> None:
        if self._broker_loss.is_lost(self._consumer):
            lost, self._consumer = self._consumer, Consumer(self._settings)
            lost.close()
            self._resume()

    def _resume(self) -> None:
        reassign(self._consumer, self._applied)

    def close(self) -> None:
        """Close the consumer and the admin client."""
        with self._admin:
            self._consumer.close()


def _settings(connection: Connection, errors: ClientErrorState, fetch_wait_ms: int) -> Settings:
    return connection.settings(
        errors,
        group_id=connection.role,  # never joined: partitions are assigned
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
        fetch_wait_max_ms=fetch_wait_ms,
        fetch_error_backoff_ms=50,
        # The bound on bytes counts keys and values; besides, each queued record costs librdkafka
        # some 300 bytes of its own, so their number is bounded, too.
        queued_max_messages_kbytes=16_384,
        queued_min_messages=5_000,
        # Pause before fetching resumes after the queue was full; the default is a second.
        fetch_queue_backoff_ms=5,
    )


def _ignore(_record: Record) -> None:
    """Apply nothing: the view has no partitions."""
