"""Decide records in their order, as far as the handler is ready.

Rules, all of them:

1. Records that were read are decided partition by partition, each in its order.  A partition that
   the handler is not ready for is held (`read_records.py`), and asked about again in the next
   round.  A transaction never waits for it.
2. A transaction that is open for `MAX_OPEN_S` is committed, also in the middle of a partition.
   The handler is asked again after that: no decision is much older than what it was based on.
3. A record that needs an unavailable dependency is held with its partition, with short pauses.
4. A record that the handler cannot decide breaks its partition; so does a write that the brokers
   refuse for good (`decision_writer.py`).
5. Every other error is raised and ends the process; half a decision is never committed.
"""

from contextlib import suppress

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import InvalidInput, InvariantBroken, Unavailable
from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.clients import TransactionalClients
from erasestream.topics.kafka.transaction.decision_writer import DecisionWriter, Restarted
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.open_transaction import OpenTransaction
from erasestream.topics.kafka.transaction.read_records import MAX_HELD_BYTES, ReadRecords

MAX_OPEN_S = 5.0
"""Longest age of a transaction before the next record is decided."""


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
        self._writer = DecisionWriter(
            clients=clients, assignment=assignment, transaction=transaction, backoff=backoff
        )
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
            self._writer.commit()
        except Restarted:
            return False
        return True

    def commit_flags(self) -> None:
        """Flag the offsets of partitions that are broken since the last commit."""
        with suppress(Restarted):
            self._writer.commit_flags()

    def _ask_about(self, partitions: set[Partition]) -> None:
        if partitions:
            self._handler.on_read(partitions)

    def _decide_partition(self, at: Partition) -> None:
        ready_until: Deadline | None = None
        while record := self._read.first(at):
            is_old = ready_until is not None and ready_until.has_passed
            if is_old or self._writer.age_s > MAX_OPEN_S:
                self._renew_readiness()
                ready_until = None
            if ready_until is None:
                if not self._is_ready(at):
                    return
                ready_until = Deadline(MAX_OPEN_S, self._clock)
            decision = self._decision(record)
            if decision is None:
                return
            self._writer.write(record, decision)
            self._read.remove_first(at)

    def _renew_readiness(self) -> None:
        self._writer.commit_if_open()
        self._ask_about(set(self._read.partitions))

    def _is_ready(self, at: Partition) -> bool:
        try:
            return self._handler.is_ready(at)
        except PartitionBroken as broken:
            raise self._writer.quarantine(broken) from broken

    def _decision(self, record: Record) -> list[Outgoing] | None:
        """Return the whole decision before any of it is written; None if it must wait."""
        try:
            return list(self._handler.handle(record))
        except Unavailable:
            self._read.pause(record.at)
            return None
        except PartitionBroken as broken:
            raise self._writer.quarantine(broken) from broken
        except (InvariantBroken, InvalidInput, ValueError, LookupError) as error:
            raise self._writer.quarantine(_undecidable(record, error)) from error

    def _bound_held_bytes(self) -> None:
        """Read again what is held and has no room, and other partitions meanwhile."""
        if self._read.held_bytes <= MAX_HELD_BYTES:
            return
        raise self._writer.postpone(self._read.partitions)


def _undecidable(record: Record, error: Exception) -> PartitionBroken:
    detail = f"{record.at} at {record.offset}: {type(error).__name__}"
    if isinstance(error, InvariantBroken) and error.detail:
        detail = error.detail
    return PartitionBroken(record.at, Defect.UNDECIDABLE_RECORD, detail, offset=record.offset)
