"""Receipts of one account from the transparency log, as `receipts.L` has them.

Where the installation has no log, or the auditor has not cosigned yet, there is none.  Owners
verify them offline, with public keys that come another way: not here.
"""

from collections.abc import Mapping

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import ReceiptIssued
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.topic_names import receipts_of
from erasestream.topics.consent.account_records import AccountRecords, PlaceReader
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Record


class AccountReceipts:
    """The receipts of one account, some KB each; repeated queries read new records only."""

    def __init__(
        self, reader: PlaceReader, lane: Lane, account: AccountId, partitions: Mapping[str, int]
    ) -> None:
        """`partitions`: the partition counts by topic."""
        self._lane, self._account = lane, account
        at = place(receipts_of(lane), account, partitions)
        self._records = AccountRecords(reader, at, apply=self.apply)
        self._receipts: dict[str, ReceiptIssued] = {}

    def now(self) -> dict[str, ReceiptIssued]:
        """Return all receipts by their ids, oldest first.  Raises `Unavailable`."""
        self._records.catch_up()
        return self._receipts

    def apply(self, record: Record) -> None:
        """Apply a record in the account's place; of one receipt, the first."""
        try:
            event = from_wire(ReceiptIssued, record.headers, record.value)
        except InvalidEvent:
            return
        if (event.lane, event.account) == (self._lane, self._account):
            self._receipts.setdefault(event.id, event)
