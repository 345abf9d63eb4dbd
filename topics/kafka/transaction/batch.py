"""Decide records inside transactions, and commit or abort them.

Rules, all of them:

1. Records that were read are decided partition by partition, each in its order.  A partition that
   the handler is not ready for is held (`read_records.py`), and asked about again in the next
   round.  A transaction never waits for it.
2. A transaction that is open for `MAX_OPEN_S` is committed, also in the middle of a partition.
   The handler is asked again after that: no decision is much older than what it was based on.
3. A record that needs an unavailable dependency is held with its partition, with growing pauses.
4. A record that the handler cannot decide, or whose write the brokers refuse for good, breaks its
   partition: all whole decisions are committed, and reading goes on without the partition.
5. A commit or write that fails otherwise aborts the transaction.  Everything since the last commit
   is read again.  Aborts in a row are followed by growing pauses.
6. Every other error is raised and ends the process; half a decision is never committed.
"""

from confluent_kafka import KafkaError

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import InvalidInput, InvariantBroken, Unavailable
from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.clients import TransactionalClients
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.open_transaction import OpenTransaction
from erasestream.topics.kafka.transaction.read_records import MAX_HELD_BYTES, ReadRecords

MAX_OPEN_S = 5.0
"""Longest age of a transaction before the next record is decided."""
REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG,
    KafkaError.POLICY_VIOLATION,
}
"""Errors of a write that the same record gets again."""


class Restarted(Exception):
    """Everything that was not committed is read again."""


class BatchDecider:
    """Decides the records of an assignment by a handler."""

    def __init__(
        self,
        *,
        handler: Handler,
        clients: TransactionalClients,
        assignment: Assignment,
        transaction: OpenTransaction,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        self._handler = handler
        self._clients = clients
        self._assignment = assignment
        self._transaction = transaction
        self._backoff = backoff
        self._read = ReadRecords(clock=clock)
        self._clock = clock
        self._epoch = assignment.epoch

    @property
    def is_holding(self) -> bool:
        """Whether there are records that are not decided yet."""
        return self._epoch == self._assignment.epoch and bool(self._read.partitions)

    def decide(self, records: list[Record]) -> None:
        """Decide what was read now, and what is held, as far as the handler is ready."""
        if self._epoch != self._assignment.epoch:
            self._read.clear()
            self._epoch = self._assignment.epoch
        new = [record for record in records if record.at in self._assignment]
        self._read.add(new)
        self._ask_about({*(record.at for record in new), *self._read.end_pauses()})
        try:
            for at in self._read.partitions:
                if not self._read.is_paused(at):
                    self._decide_partition(at)
            self._bound_held_bytes()
        except Restarted:
            return
        self._clients.consumer.pause_only(self._read.partitions)
        self._clients.producer.serve()

    def commit(self) -> bool:
        """Commit all decisions, the offsets behind them and flags; False after an abort."""
        try:
            self._commit()
        except Restarted:
            return False
        return True

    def commit_flags(self) -> None:
        """Flag the offsets of partitions that are broken since the last commit."""
        if self._assignment.has_flags:
            if not self._transaction.is_open:
                self._transaction.begin()
            self.commit()

    def _ask_about(self, partitions: set[Partition]) -> None:
        if partitions:
            self._handler.on_read(partitions)

    def _decide_partition(self, at: Partition) -> None:
        ready_until: Deadline | None = None
        while record := self._read.first(at):
            is_old = ready_until is not None and ready_until.has_passed
            if is_old or self._transaction.age_s > MAX_OPEN_S:
                self._renew_readiness()
                ready_until = None
            if ready_until is None:
                if not self._is_ready(at):
                    return
                ready_until = Deadline(MAX_OPEN_S, self._clock)
            decision = self._decision(record)
            if decision is None:
                return
            self._write(record, decision)
            self._assignment.handled(record)
            self._read.remove_first(at)

    def _renew_readiness(self) -> None:
        if self._transaction.is_open:
            self._commit()
        self._ask_about(set(self._read.partitions))

    def _is_ready(self, at: Partition) -> bool:
        try:
            return self._handler.is_ready(at)
        except PartitionBroken as broken:
            raise self._quarantine(broken) from broken

    def _decision(self, record: Record) -> list[Outgoing] | None:
        """Return the whole decision before any of it is written; None if it must wait."""
        try:
            return list(self._handler.handle(record))
        except Unavailable:
            self._read.pause(record.at)
            return None
        except PartitionBroken as broken:
            raise self._quarantine(broken) from broken
        except (InvariantBroken, InvalidInput, ValueError, LookupError) as error:
            raise self._quarantine(_undecidable(record, error)) from error

    def _write(self, record: Record, decision: list[Outgoing]) -> None:
        if not self._transaction.is_open:
            self._transaction.begin()
        try:
            self._transaction.add(decision, source=record.at)
        except AbortRequired as abort:
            raise self._abort(abort) from abort

    def _commit(self) -> None:
        offsets = self._assignment.next_offsets()
        try:
            self._transaction.commit(offsets, self._clients.consumer.client)
        except AbortRequired as abort:
            raise self._abort(abort) from abort
        self._assignment.committed()
        self._backoff.reset()
        self._clients.errors.recovered()

    def _quarantine(self, broken: PartitionBroken) -> Restarted:
        """Commit all whole decisions, and go on without the partition."""
        self._assignment.quarantine(broken)
        if self._transaction.is_open or self._assignment.has_flags:
            if not self._transaction.is_open:
                self._transaction.begin()
            self._commit()
        self._assignment.restart()
        return Restarted()

    def _abort(self, abort: AbortRequired) -> Restarted:
        """Undo all decisions since the last commit, and read their records again."""
        self._transaction.undo(abort.error.name())
        if abort.source is not None and abort.error.code() in REFUSED:
            detail = f"{abort.source}: {abort.error.name()}"
            broken = PartitionBroken(abort.source, Defect.WRITE_REFUSED, detail)
            self._assignment.quarantine(broken)
        else:
            self._backoff.pause()
        self._assignment.restart()
        return Restarted()

    def _bound_held_bytes(self) -> None:
        """Read again what is held and has no room, and other partitions meanwhile."""
        if self._read.held_bytes <= MAX_HELD_BYTES:
            return
        if self._transaction.is_open:
            self._commit()
        for at in self._read.partitions:
            self._assignment.postpone(at)
        self._assignment.restart()
        raise Restarted


def _undecidable(record: Record, error: Exception) -> PartitionBroken:
    detail = f"{record.at} at {record.offset}: {type(error).__name__}"
    if isinstance(error, InvariantBroken) and error.detail:
        detail = error.detail
    return PartitionBroken(record.at, Defect.UNDECIDABLE_RECORD, detail, offset=record.offset)
