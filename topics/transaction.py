"""The exactly-once loop: read a batch, handle it, write, commit offsets, all or nothing.

One transaction holds what is written and how far was read; a crash anywhere leaves either
both or neither.  The rules:

* Position and metadata (the replay mark) of a partition come from one answer of the group
  coordinator, to a read-committed consumer, and are assigned explicitly; again after every
  abort.  A partition without a committed offset begins where the handler can prove that
  nothing of it was ever handled; else it stops the process.
* A transaction stays open for up to `interval_s` while small reads and writes overlap, and
  is committed at once when the input is drained (measured: twice as fast as a transaction
  per read at 100 KB, and 8 ms from append to delivery when there is little to do).
* Before a small read is handled, the handler is asked whether it can decide.  If it must
  wait, what is decided already is committed first: no transaction is open while it waits.
* Any error of a write aborts the transaction, also one that the client library would have
  committed without the record (one that is too large).
* Fenced, or a transaction that timed out: the process ends; its successor goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.schemas.errors import Fenced, InvariantBroken, Unavailable
from erasestream.topics.connection import Connection, ErrorWatch, translate
from erasestream.topics.membership import member_name
from erasestream.topics.record import Outgoing, Partition, Record
from erasestream.topics.starts import Start, Starts
from erasestream.topics.transactional_writes import (
    MAX_RECORD_BYTES,
    METADATA_S,
    QUEUE_KBYTES,
    MustAbort,
    TransactionalWrites,
)

log = logging.getLogger(__name__)

SMALL_READ = 50
"""Records per small read; small, so that reading and writing overlap."""
MAX_OPEN_S = 5.0
"""A transaction that is open for so long is committed, also in the midst of a small read."""


class Handler(Protocol):
    """What the loop is for.  Called by one thread."""

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        """These partitions, and no others, are ours from here on; forget what was open."""

    def ready(self, records: list[Record]) -> bool:
        """Whether these can be decided now."""

    def wait(self) -> None:
        """Wait until what `ready` was asked for can be decided."""

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """What this record becomes."""

    def first_start(self, at: Partition) -> Start | None:
        """Where a partition without a committed offset begins; None stops the process."""

    def metadata(self, partition: Partition) -> str:
        """What is committed with the offset of this partition."""


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
        self._watch = ErrorWatch()
        self._assigned: list[Partition] = []
        self._assignments = 0
        self._is_assigned = False
        self._next: dict[Partition, int] = {}
        self._opened_at: float | None = None
        self.transactions = 0
        self._consumer = Consumer(
            connection.settings(
                self._watch,
                group_id=connection.role,
                group_instance_id=member_name(connection, instance=instance, topics=topics),
                session_timeout_ms=10_000,
                heartbeat_interval_ms=2_000,
                max_poll_interval_ms=300_000,
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                topic_metadata_refresh_interval_ms=int(METADATA_S * 1000),
                partition_assignment_strategy="range",
                fetch_message_max_bytes=4_000_000,
                fetch_wait_max_ms=100,
                fetch_error_backoff_ms=50,
                fetch_queue_backoff_ms=20,
                queued_max_messages_kbytes=QUEUE_KBYTES,
                message_max_bytes=MAX_RECORD_BYTES,
                receive_message_max_bytes=2 * MAX_RECORD_BYTES,
            )
        )
        self._starts = Starts(
            consumer=self._consumer,
            first_start=handler.first_start,
            stopping=stopping,
            watch=self._watch,
        )
        self._writes = TransactionalWrites(
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
        """Commit what is decided, and leave."""
        try:
            if self._opened_at is not None:
                self._commit()
        finally:
            self._consumer.close()

    def turn(self, timeout_s: float = 0.2) -> int:
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
    def has_partitions(self) -> bool:
        """Whether the group gave this member its partitions."""
        return bool(self._assigned)

    @property
    def is_assigned(self) -> bool:
        """Whether the group has said which partitions are this member's; that may be none."""
        return self._is_assigned

    def _read(self, timeout_s: float) -> list[Record]:
        first = self._consumer.poll(timeout_s)
        self._watch.check()
        if first is None:
            return []
        messages = [first, *self._consumer.consume(SMALL_READ - 1, 0)]
        return [Record.of(message) for message in messages if self._is_record(message)]

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise InvariantBroken(f"the committed offset is not there any more: {error.str()}")
        if error.fatal():
            raise Fenced(error.str())
        if not isinstance(translate(error), Unavailable):
            raise translate(error, f"reading {', '.join(self._topics)}")
        self._watch(error)
        return False

    def _handle(self, records: list[Record]) -> None:
        if not self._handler.ready(records):
            if self._opened_at is not None and not self._commit():
                return None  # aborted: these records are read again
            self._handler.wait()
        for record in records:
            if record.at not in self._next:
                continue  # was taken from us while we waited
            if not self._open():
                return None  # aborted
            try:
                for outgoing in self._handler.handle(record):
                    self._writes.write(outgoing)
            except MustAbort as abort:
                return self._abort(abort.error)
            except Unavailable as error:
                # Half a decision is none: everything since the last commit is read again.
                log.warning("waiting", extra={"code": error.code})
                return self._abort(None)
            self._next[record.at] = record.offset + 1
        return self._writes.serve()

    def _open(self) -> bool:
        """Have a transaction open, and not for too long; False if one was aborted instead."""
        is_overdue = self._opened_at is not None and self._clock() - self._opened_at > MAX_OPEN_S
        if is_overdue and not self._commit():
            return False
        if self._opened_at is None:
            self._writes.begin()
            self._opened_at = self._clock()
        return True

    def _commit(self) -> bool:
        """Commit; False if it was aborted instead and everything is read again."""
        offsets = [
            TopicPartition(at.topic, at.number, offset, metadata=self._handler.metadata(at))
            for at, offset in self._next.items()
            if offset >= 0
        ]
        try:
            self._writes.commit(offsets, self._consumer)
        except MustAbort as abort:
            self._abort(abort.error)
            return False
        self._opened_at = None
        self.transactions += 1
        self._watch.settled()
        return True

    def _abort(self, error: KafkaError | None) -> None:
        """Undo what is open, and read it again from where the last commit stands."""
        if error is not None:
            log.warning("transaction_aborted", extra={"code": error.name()})
        self._undo()
        self._assign(self._assigned)

    def _undo(self) -> None:
        if self._opened_at is not None:
            self._writes.abort()
        self._opened_at = None

    def _assign(self, partitions: list[Partition]) -> None:
        self._assignments += 1
        if not partitions:
            return
        starts = self._starts.of(partitions)
        self._next = dict.fromkeys(partitions, -1)
        self._assigned = partitions
        self._handler.assigned(starts)
        self._consumer.assign([TopicPartition(*at, start.offset) for at, start in starts.items()])

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assign([Partition(tp.topic, tp.partition) for tp in partitions])
        self._is_assigned = True

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        # What is open is undone rather than committed: the next owner reads it again.
        self._undo()
        self._assignments += 1
        self._is_assigned = False
        self._assigned = []
        self._next = {}
