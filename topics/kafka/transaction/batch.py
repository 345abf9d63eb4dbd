"""Decide a batch of records inside transactions, and commit or abort them.

Rules, all of them:

1. Before a batch is decided, the handler is asked whether it is ready.  If it must wait, earlier
   decisions are committed first: no transaction is open while it waits.
2. A transaction that is open for `MAX_OPEN_S` is committed, also in the middle of a batch.  The
   handler is asked again after that: no decision is much older than what it was based on.
3. A record whose decision fails because a dependency is unavailable, or whose write is refused,
   aborts the transaction; so does a commit that the group or the brokers refuse.  Everything
   since the last commit is read again.  Aborts in a row are followed by growing pauses.
4. Every other error is raised and ends the process; the half decision is never committed.
"""

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.backoff import Backoff
from erasestream.topics.kafka.records import Record
from erasestream.topics.kafka.transaction.assignment import Assignment
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.clients import TransactionalClients
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.open_transaction import OpenTransaction

MAX_OPEN_S = 5.0
"""Longest age of a transaction before the next record is decided."""


class BatchDecider:
    """Decides batches of records of an assignment by a handler."""

    def __init__(
        self,
        *,
        handler: Handler,
        clients: TransactionalClients,
        assignment: Assignment,
        transaction: OpenTransaction,
        backoff: Backoff,
    ) -> None:
        self._handler = handler
        self._clients = clients
        self._assignment = assignment
        self._transaction = transaction
        self._backoff = backoff

    def decide(self, records: list[Record]) -> None:
        """Decide one record after the other, until one leads to an abort."""
        is_ready = False
        for record in records:
            if self._transaction.age_s > MAX_OPEN_S:
                if not self.commit():
                    return
                is_ready = False
            if not is_ready and not self._make_ready():
                return
            is_ready = True
            if record.at not in self._assignment:
                continue  # revoked while the handler waited
            if not self._decide_one(record):
                return
        self._clients.producer.serve()

    def commit(self) -> bool:
        """Commit all decisions and the offsets behind them; False after an abort."""
        offsets = self._assignment.next_offsets()
        try:
            self._transaction.commit(offsets, self._clients.consumer.client)
        except AbortRequired as abort:
            self._abort(abort.error.name())
            return False
        self._backoff.reset()
        self._clients.errors.recovered()
        return True

    def _make_ready(self) -> bool:
        """Wait until the handler is ready, with no open transaction; False after an abort."""
        if self._handler.is_ready():
            return True
        if self._transaction.is_open and not self.commit():
            return False
        self._handler.wait_until_ready()
        return True

    def _decide_one(self, record: Record) -> bool:
        """Write what the record becomes; False after an abort."""
        if not self._transaction.is_open:
            self._transaction.begin()
        try:
            self._transaction.add(self._handler.handle(record))
        except AbortRequired as abort:
            self._abort(abort.error.name())
            return False
        except Unavailable as error:
            self._abort(error.code)
            return False
        self._assignment.handled(record)
        return True

    def _abort(self, code: str) -> None:
        self._transaction.undo(code)
        self._backoff.pause()
        self._assignment.restart()
