"""Write decisions inside transactions, and commit or abort them.

Rules, all of them:

1. A transaction is opened for the first decision, and only whole decisions are committed.
2. A partition that is broken, as the caller reports or because the brokers refuse a write for
   good, is quarantined: all whole decisions are committed, and reading goes on without it.
3. A commit or write that fails otherwise aborts the transaction.  Everything since the last commit
   is read again.  Aborts in a row are followed by growing pauses.
4. Every restart of the assignment raises `Restarted`.
"""

from confluent_kafka import KafkaError

from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.clients import TransactionalClients
from erasestream.topics.kafka.transaction.open_transaction import OpenTransaction

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


class DecisionWriter:
    """Writes and commits the decisions on the records of an assignment."""

    def __init__(
        self,
        *,
        clients: TransactionalClients,
        assignment: Assignment,
        transaction: OpenTransaction,
        backoff: Backoff,
    ) -> None:
        self._clients = clients
        self._assignment = assignment
        self._transaction = transaction
        self._backoff = backoff

    @property
    def age_s(self) -> float:
        """Seconds since the transaction was opened; 0 if none is open."""
        return self._transaction.age_s

    def write(self, record: Record, decision: list[Outgoing]) -> None:
        """Write what a record becomes, and count the record as handled."""
        if not self._transaction.is_open:
            self._transaction.begin()
        try:
            self._transaction.add(decision, source=record.at)
        except AbortRequired as abort:
            self._abort(abort)
            raise Restarted from abort
        self._assignment.handled(record)

    def commit(self) -> None:
        """Commit all decisions, the offsets behind them and flags."""
        offsets = self._assignment.next_offsets()
        try:
            self._transaction.commit(offsets, self._clients.consumer.client)
        except AbortRequired as abort:
            self._abort(abort)
            raise Restarted from abort
        self._assignment.committed()
        self._backoff.reset()
        self._clients.errors.recovered()

    def commit_if_open(self) -> None:
        """Commit what a transaction holds, if one is open."""
        if self._transaction.is_open:
            self.commit()

    def commit_flags(self) -> None:
        """Flag the offsets of partitions that are broken since the last commit."""
        if self._assignment.has_flags:
            if not self._transaction.is_open:
                self._transaction.begin()
            self.commit()

    def quarantine(self, broken: PartitionBroken) -> Restarted:
        """Commit all whole decisions, and read on without the partition; return what to raise."""
        self._assignment.quarantine(broken)
        self.commit_if_open()
        self.commit_flags()
        self._assignment.restart()
        return Restarted()

    def postpone(self, partitions: list[Partition]) -> Restarted:
        """Commit all whole decisions, and read these a moment later; return what to raise."""
        self.commit_if_open()
        for at in partitions:
            self._assignment.postpone(at)
        self._assignment.restart()
        return Restarted()

    def _abort(self, abort: AbortRequired) -> None:
        """Undo all decisions since the last commit, and read their records again."""
        self._transaction.undo(abort.error.name())
        if abort.source is not None and abort.error.code() in REFUSED:
            detail = f"{abort.source}: {abort.error.name()}"
            broken = PartitionBroken(abort.source, Defect.WRITE_REFUSED, detail)
            self._assignment.quarantine(broken)
        else:
            self._backoff.pause()
        self._assignment.restart()
