"""Accounts that their owners have closed, as `ledger.L` has them: for good.  Pure.

The ledger is never compacted, so that no later decision can hide a closing one.  About 100 bytes
for each closed account.
"""

from collections.abc import Mapping

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId
from erasestream.topics.catalog.topic_names import ledger_of
from erasestream.topics.consent.ledger_place import belongs
from erasestream.topics.kafka.records import Record

_MARK = b'"closes"'
"""In every closing entry, and in few others: most are not decoded."""


class ClosedAccounts:
    """The closed accounts of one lane."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._closed: set[AccountId] = set()

    def apply(self, record: Record) -> None:
        """Apply one record of the ledger; one that is not in its account's place is ignored."""
        if _MARK not in record.value:
            return
        try:
            entry = from_wire(DecisionEntry, record.headers, record.value)
        except InvalidEvent:
            return
        place = ledger_of(entry.lane), entry.account, self._partitions
        if entry.is_closing and belongs(record, *place):
            self._closed.add(entry.account)

    def __contains__(self, account: AccountId) -> bool:
        """Return whether the account is closed."""
        return account in self._closed
