"""The exactly-once loop: read a batch, handle it, write, commit offsets, all or nothing.

One transaction holds what is written and how far was read; a crash anywhere leaves either
both or neither.  The rules:

* Position and metadata (the replay mark) of a partition come from one answer of the group
  coordinator, to a read-committed consumer, and are assigned explicitly; again after every
  abort.  A partition without a committed offset begins where the handler can prove that
  nothing of it was ever handled; else it stops the process.  One whose committed offset was
  deleted begins at what is left, and the handler is told of the loss (`starts.py`).
* A transaction stays open for up to `interval_s` while small reads and writes overlap, and
  is committed at once when the input is drained (measured: twice as fast as a transaction
  per read at 100 KB, and 8 ms from append to delivery when there is little to do).
* Before a small read is handled, the handler is asked whether it can decide.  If it must
  wait, what is decided already is committed first: no transaction is open while it waits.
  Again after a commit in the midst of a read: no decision is much older than its news.
* Any error of a write aborts the transaction, also one that the client library would have
  committed without the record (one that is too large).  After aborts in a row there is a pause.
* Fenced, or a transaction that timed out: the process ends; its successor goes on.
"""

import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.schemas.errors import Fenced, InvariantBroken, Unavailable
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.backoff import pause_s
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.consumer import transactional_consumer
from erasestream.topics.kafka.transaction.counters import TransactionCounters
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.producer import AbortRequired, TransactionalProducer
from erasestream.topics.kafka.transaction.start_offsets import StaleGeneration, StartOffsets

SMALL_READ = 500
SMALL_READ_BYTES = 5_000_000
"""Bounds of a small read; small, so that reading and writing overlap, and so large that what
is asked once for each read does not count."""
MAX_OPEN_S = 5.0
"""A transaction that is open for so long is committed, also in the midst of a small read."""
REVOKED, HALF_DECIDED = "partitions_revoked", "half_decided"
OUT_OF_RANGE = "position_out_of_range"
"""Why a transaction is undone that no error of the brokers ended."""


class TransactionalLoop:
    """Runs a handler exactly once over the records of some topics.

    `instance` names this member for ever: its place in the group and its transactional id.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        topics: list[str],
        instance: str,
        handler: Handler,
        stopping: threading.Event,
        interval_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._handler = handler
        self._stopping = stopping
        self._interval_s = interval_s
        self._clock = clock
        self._watch = ClientErrorState()
        self._lifeline = BrokerLossDetector(connection, self._watch)
        self._assigned: list[Partition] = []
        self._assignments = 0
        self._is_assigned = False
        self._first: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._opened_at: float | None = None
        self._open_records = 0
        self._has_half = False
        self._aborts = 0
        self.counters = TransactionCounters(clock=clock)
        self._consumer = transactional_consumer(
            connection, self._watch, topics=topics, instance=instance
        )
        self._starts = StartOffsets(
            consumer=self._consumer,
            offsets=OffsetQueries(Admin(connection)),
            initial_offset=handler.initial_offset,
            stopping=stopping,
            watch=self._watch,
        )
        self._writes = TransactionalProducer(
            connection=connection, instance=instance, stopping=stopping, watch=self._watch
        )

    def start(self) -> None:
        """Fence a predecessor of this name and join the group."""
        self._writes.start()
        self._consumer.subscribe(
            self._topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def close(self) -> None:
        """Commit what is decided, and leave; half a decision is undone with all that is open."""
        try:
            if self._has_half:
                self._undo(HALF_DECIDED)
            elif self._opened_at is not None:
                self._commit()
        finally:
            self.counters.say()
            self._consumer.close()

    def run_once(self, timeout_s: float = 0.2) -> int:
        """One small read and what follows from it.  Returns how many records were handled."""
        wait_s = timeout_s if self._opened_at is None else 0.002
        before = self._assignments
        records = self._read(wait_s)
        if self._assignments != before:
            # Records of the old and of the new assignment can not be told apart: read again.
            self._assign(self._assigned)
            return 0
        if records:
            self._handle(records)
        if self._opened_at is not None and (
            not records or self._clock() - self._opened_at >= self._interval_s
        ):
            self._commit()
        return len(records)

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open, so that nothing slow may be done."""
        return self._opened_at is not None

    @property
    def has_partitions(self) -> bool:
        """Whether the group gave this member its partitions."""
        return bool(self._assigned)

    @property
    def is_assigned(self) -> bool:
        """Whether the group has said which partitions are this member's; that may be none."""
        return self._is_assigned

    def _read(self, timeout_s: float) -> list[Record]:
        records: list[Record] = []
        size = 0
        message = self._consumer.poll(timeout_s)
        self._watch.check()
        self._lifeline.check(self._consumer)
        while message is not None:
            if self._is_record(message):
                records.append(Record.of(message))
                size += len(records[-1].value)
            if size >= SMALL_READ_BYTES or len(records) >= SMALL_READ:
                break
            message = self._consumer.poll(0)
        return records

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._begin_again(message)
            return False
        if error.fatal():
            raise Fenced(error.str())
        if not isinstance(translate(error), Unavailable):
            raise translate(error, f"reading {', '.join(self._topics)}")
        self._watch(error)
        return False

    def _begin_again(self, out_of_range: Message) -> None:
        """From what is committed, and what of it the brokers still have; unless it is that.

        Else another place is not there: where reading had got to, or where an earlier assignment
        read, since librdkafka lets such an answer outlive it.
        """
        at = Partition(str(out_of_range.topic()), out_of_range.partition() or 0)
        if self._first.get(at) == out_of_range.offset():
            raise InvariantBroken(f"{at}: the committed offset is not there any more")
        self._undo(OUT_OF_RANGE)
        self._assignments += 1

    def _handle(self, records: list[Record]) -> None:
        can_decide = False
        for record in records:
            if self._is_overdue():
                if not self._commit():
                    return None  # aborted: these records are read again
                can_decide = False  # by now there may be news
            if not can_decide and not self._await():
                return None
            can_decide = True
            if record.at not in self._next:
                continue  # was taken from us while we waited
            if not self._decide(record):
                return None
        return self._writes.serve()

    def _is_overdue(self) -> bool:
        return self._opened_at is not None and self._clock() - self._opened_at > MAX_OPEN_S

    def _await(self) -> bool:
        """Until these can be decided; False if what was open was aborted instead of committed."""
        if self._handler.is_ready():
            return True
        if self._opened_at is not None and not self._commit():
            return False
        self._handler.wait_until_ready()
        return True

    def _decide(self, record: Record) -> bool:
        """Write what the record becomes; False if all that is open was aborted instead."""
        if self._opened_at is None:
            self._writes.begin()
            self._opened_at, self._open_records = self._clock(), 0
        self._has_half = True
        try:
            for outgoing in self._handler.handle(record):
                self._writes.write(outgoing)
        except AbortRequired as abort:
            self._abort(abort.error.name())
        except Unavailable as error:
            # Half a decision is none: everything since the last commit is read again.
            self._abort(error.code)
        else:
            self._has_half = False
            self._next[record.at] = record.offset + 1
            self._open_records += 1
            return True
        return False

    def _commit(self) -> bool:
        """Commit; False if it was aborted instead and everything is read again."""
        offsets = [
            TopicPartition(at.topic, at.number, offset, metadata=self._handler.offset_metadata(at))
            for at, offset in self._next.items()
            if offset >= 0
        ]
        try:
            self._writes.commit(offsets, self._consumer)
        except AbortRequired as abort:
            self._abort(abort.error.name())
            return False
        self._opened_at, self._aborts = None, 0
        self.counters.commit(self._open_records)
        self._watch.settled()
        return True

    def _abort(self, code: str) -> None:
        """Undo what is open, and read it again from where the last commit stands."""
        self._undo(code)
        self._aborts += 1
        self._stopping.wait(pause_s(self._aborts))
        self._assign(self._assigned)

    def _undo(self, code: str) -> None:
        if self._opened_at is not None:
            self._writes.abort()
            self.counters.abort(code)
        self._opened_at = None
        self._has_half = False

    def _assign(self, partitions: list[Partition]) -> None:
        self._assignments += 1
        if not partitions:
            return
        try:
            starts = self._starts.of(partitions)
        except (
            StaleGeneration
        ):  # the client learns it by itself, too, and is told then what is ours
            self._forget()
            self._consumer.assign([])
            return
        self._first = {at: start.offset for at, start in starts.items()}
        self._next = dict.fromkeys(partitions, -1)
        self._assigned = partitions
        self._handler.on_assigned(starts)
        self._consumer.assign([TopicPartition(*at, start.offset) for at, start in starts.items()])

    def _forget(self) -> None:
        self._is_assigned = False
        self._assigned, self._first, self._next = [], {}, {}

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_assigned = True
        self._assign([Partition(tp.topic, tp.partition) for tp in partitions])

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        # What is open is undone rather than committed: the next owner reads it again.
        self._undo(REVOKED)
        self._assignments += 1
        self._forget()
