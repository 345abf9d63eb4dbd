"""The exactly-once loop: read a batch, decide it, write, commit offsets, all or nothing.

A transaction holds the records that are written and the offsets that were read; a crash anywhere
leaves either both or neither.  The rules:

* Offset and metadata (the replay mark) of a partition come from one answer of the group
  coordinator to a read-committed consumer, and are assigned explicitly; again after every
  abort (`assignment.py`, `start_offsets.py`).
* A transaction stays open for up to `interval_s` while small reads and writes overlap, and
  is committed at once when the input is drained (measured: twice as fast as a transaction
  per read at 100 KB, and 8 ms from append to delivery when there is little to do).
* Decisions wait until the handler is ready for their partition; no transaction and no other
  partition waits for it (`batch.py`).
* What is wrong with one partition concerns that partition alone: it is quarantined, and tried
  again later (`quarantine.py`).
* Any error of a write aborts the transaction, also one that the client library would have
  committed without the record (one that is too large).  Half of a decision is never committed
  (`open_transaction.py`).
* A fenced producer, or a transaction that timed out, ends the process; its successor continues.
"""

import threading
import time
from contextlib import ExitStack

from erasestream.schemas.clocks import Clock
from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.partition_broken import QuarantineListener
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.batch import BatchDecider
from erasestream.topics.kafka.transaction.clients import TransactionalClients
from erasestream.topics.kafka.transaction.counters import TransactionCounters
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.open_transaction import OpenTransaction
from erasestream.topics.kafka.transaction.quarantine import Quarantine

POLL_WHILE_OPEN_S = 0.002
REVOKED, HALF_DECIDED = "partitions_revoked", "half_decided"
OUT_OF_RANGE = "position_out_of_range"
"""Codes of aborts that no error of the brokers caused."""


class TransactionalLoop:
    """Runs a handler exactly once over the records of some topics.  One thread.

    `instance` is this member's permanent name: its place in the group and its transactional id.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        topics: list[str],
        instance: str,
        handler: Handler,
        stopping: threading.Event,
        listener: QuarantineListener,
        interval_s: float = 0.1,
        has_follow_ups: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        """Open the clients; `listener` takes reports about quarantined partitions.

        `has_follow_ups`: whether records of the handler have any (`follow_ups.py`).
        """
        self._interval_s = interval_s
        self.counters: TransactionCounters = TransactionCounters(clock=clock)
        clients = self._clients = TransactionalClients(
            connection=connection,
            topics=topics,
            instance=instance,
            initial_offset=handler.initial_offset,
            stopping=stopping,
            has_follow_ups=has_follow_ups,
        )
        self._transaction = OpenTransaction(
            producer=clients.producer, counters=self.counters, clock=clock
        )
        self._quarantine = Quarantine(listener=listener, clock=clock)
        self._assignment = Assignment(
            consumer=clients.consumer,
            start_offsets=clients.start_offsets,
            handler=handler,
            quarantine=self._quarantine,
        )
        self._batch = BatchDecider(
            handler=handler,
            clients=clients,
            assignment=self._assignment,
            transaction=self._transaction,
            backoff=Backoff(stopping=stopping),
            clock=clock,
        )
        self._opened = ExitStack()
        self._opened.callback(clients.close)
        self._opened.callback(self._finish)

    def start(self) -> None:
        """Fence the predecessor of this name and join the group.  If that fails, close."""
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._clients.producer.start()
            self._clients.consumer.subscribe(self)
            on_failure.pop_all()

    def close(self) -> None:
        """Commit whole decisions, undo a half one, and leave the group.  Idempotent."""
        self._opened.close()

    def run_once(self, timeout_s: float = 0.2) -> int:
        """Read and decide one batch, and commit if it is time; return the number of records."""
        self._retry_quarantined()
        epoch = self._assignment.epoch
        is_short = self._transaction.is_open or self._batch.is_holding
        records = self._clients.consumer.read(POLL_WHILE_OPEN_S if is_short else timeout_s)
        if self._assignment.epoch != epoch:
            self._assignment.restart()
            self._batch.commit_flags()
            return 0
        if records or self._batch.is_holding:
            self._batch.decide(records)
        is_due = not records or self._transaction.age_s >= self._interval_s
        if self._transaction.is_open and is_due:
            self._batch.commit()
        self._batch.commit_flags()
        return len(records)

    def _retry_quarantined(self) -> None:
        """Read quarantined partitions again that have waited long enough."""
        if self._quarantine.begin_trials():
            if self._transaction.is_open:
                self._batch.commit()
            self._assignment.restart()

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open, so that nothing slow may be done."""
        return self._transaction.is_open

    @property
    def is_assigned(self) -> bool:
        """Whether the group has assigned this member its partitions; there may be none."""
        return self._assignment.is_known

    @property
    def has_partitions(self) -> bool:
        """Whether this member reads any partition."""
        return bool(self._assignment.partitions)

    def on_assigned(self, partitions: list[Partition]) -> None:
        """Read these partitions; called by the consumer, like the next two."""
        self._assignment.assign(partitions)

    def on_revoked(self) -> None:
        """Abort the transaction: the next owner of the partitions reads its records again."""
        self._transaction.undo(REVOKED)
        self._assignment.revoke()

    def on_out_of_range(self, at: Partition, offset: int | None) -> None:
        """Abort the transaction, and read again from the start offsets."""
        self._assignment.reject_position(at, offset)
        self._transaction.undo(OUT_OF_RANGE)

    def _finish(self) -> None:
        try:
            if self._transaction.is_half_decided:
                self._transaction.undo(HALF_DECIDED)
            elif self._transaction.is_open:
                self._batch.commit()
        finally:
            self.counters.log_totals()
