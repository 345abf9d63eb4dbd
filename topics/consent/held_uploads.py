"""How many uploads of one account are retained, by grant and day, from the topics alone.

For an account page: the gateway has no access to the bucket.  The router writes one record to
`held.L` for each upload whose photo and cut-out it hands to the encryption sink, in the same
transaction.

* A record counts once: the router goes through the positions of each partition of uploads in their
  order, so that one at or below the last counted was routed again, after an abort.
* It counts what was handed over: the sink stores it a moment later, and two uploads with one id and
  the same image once.
* An upload that was erased alone does not count, once `erasures.L` has that as confirmed: from then
  on nothing of it is kept, whichever record comes first.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from uuid import UUID

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import UploadErased, UploadHeld
from erasestream.schemas.ids import AccountId, GrantId, Lane, image_key
from erasestream.topics.catalog.topic_names import erasures_of, held_of
from erasestream.topics.consent.account_records import AccountRecords, PlaceReader
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Record

_ROW = struct.Struct("<16sI")
"""A counted upload: its image key, and its day."""
_KEY_BYTES = 16


class HeldUploads:
    """The counts of one account; repeated queries read new records only."""

    def __init__(
        self, reader: PlaceReader, lane: Lane, account: AccountId, partitions: Mapping[str, int]
    ) -> None:
        """`partitions`: the partition counts by topic."""
        self._counts = HeldCounts(lane, account)
        held, erasures = (place(name(lane), account, partitions) for name in (held_of, erasures_of))
        self._sources = [
            AccountRecords(reader, held, apply=self._counts.apply),
            AccountRecords(reader, erasures, apply=self._counts.apply_erasure),
        ]

    def now(self, grant: GrantId) -> dict[date, int]:
        """Return the number of uploads under a grant by day, newest first; or `Unavailable`."""
        for each in self._sources:
            each.catch_up()
        return self._counts.of(grant)


class HeldCounts:
    """The counts that the records of one account add up to; 20 bytes for each upload.  Pure."""

    def __init__(self, lane: Lane, account: AccountId) -> None:
        self._lane, self._account = lane, account
        self._days: dict[GrantId, Counter[date]] = {}
        self._rows: dict[GrantId, bytearray] = {}
        """Of each counted upload."""
        self._erased: set[bytes] = set()
        """Image keys of uploads that were erased alone."""
        self._counted: dict[tuple[str, int], int] = {}
        """The last offset of each partition of uploads."""

    def apply(self, record: Record) -> None:
        """Apply a record of `held.L` in the account's place."""
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
        key = UUID(event.image).bytes if event.image else None
        if key in self._erased:
            return
        day = event.uploaded_at.date()
        self._days.setdefault(event.grant, Counter())[day] += 1
        if key is not None:
            rows = self._rows.setdefault(event.grant, bytearray())
            rows += _ROW.pack(key, day.toordinal())

    def apply_erasure(self, record: Record) -> None:
        """Apply a record of `erasures.L` in the account's place."""
        try:
            event = from_wire(UploadErased, record.headers, record.value)
        except InvalidEvent:
            return
        if (event.lane, event.account) != (self._lane, self._account):
            return
        key = UUID(image_key(self._lane, self._account, event.upload)).bytes
        if key in self._erased:
            return
        self._erased.add(key)
        for grant, rows in self._rows.items():
            self._days[grant].subtract(_days_of(rows, key))

    def of(self, grant: GrantId) -> dict[date, int]:
        """Return the number of uploads under a grant by day, newest first."""
        days = sorted(self._days.get(grant, {}).items(), reverse=True)
        return {day: count for day, count in days if count}


def _days_of(rows: bytearray, key: bytes) -> Iterator[date]:
    """Yield the days of the rows with this key."""
    at = -1
    while (at := rows.find(key, at + 1)) >= 0:
        if at % _ROW.size == 0:  # no equal bytes across two rows
            (ordinal,) = struct.unpack_from("<I", rows, at + _KEY_BYTES)
            yield date.fromordinal(ordinal)
