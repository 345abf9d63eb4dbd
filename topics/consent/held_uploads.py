"""How many uploads of one account are retained, by grant and day, from `held.L` alone.

For an account page: the gateway has no access to the bucket.  The router writes one record for each
upload whose photo and cut-out it hands to the encryption sink, in the same transaction.

* A record counts once: the router goes through the positions of each partition of uploads in their
  order, so that one at or below the last counted was routed again, after an abort.
* It counts what was handed over: the sink stores it a moment later, and two uploads with one id and
  the same image once.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import UploadHeld
from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.topics.catalog.topic_names import held_of
from erasestream.topics.consent.account_records import AccountRecords, PlaceReader
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Record


class HeldUploads:
    """The counts of one account; repeated queries read new records only."""

    def __init__(
        self, reader: PlaceReader, lane: Lane, account: AccountId, partitions: Mapping[str, int]
    ) -> None:
        """`partitions`: the partition counts by topic."""
        self._counts = HeldCounts(lane, account)
        at = place(held_of(lane), account, partitions)
        self._records = AccountRecords(reader, at, apply=self._counts.apply)

    def now(self, grant: GrantId) -> dict[date, int]:
        """Return the number of uploads under a grant by day, newest first; or `Unavailable`."""
        self._records.catch_up()
        return self._counts.of(grant)


class HeldCounts:
    """The counts that the records of one account add up to.  Pure."""

    def __init__(self, lane: Lane, account: AccountId) -> None:
        self._lane, self._account = lane, account
        self._days: dict[GrantId, Counter[date]] = {}
        self._counted: dict[tuple[str, int], int] = {}
        """The last offset of each partition of uploads."""

    def apply(self, record: Record) -> None:
        """Apply a record in the account's place."""
        try:
            event = from_wire(UploadHeld, record.headers, record.value)
        except InvalidEvent:
            return
        if (event.lane, event.account) != (self._lane, self._account):
            return
        topic_id, partition, offset = event.position
        if offset <= self._counted.get((topic_id, partition), -1):
            return
        self._counted[topic_id, partition] = offset
        self._days.setdefault(event.grant, Counter())[event.uploaded_at.date()] += 1

    def of(self, grant: GrantId) -> dict[date, int]:
        """Return the number of uploads under a grant by day, newest first."""
        return dict(sorted(self._days.get(grant, {}).items(), reverse=True))
