"""How far the erasures of single uploads of one account are, from the topics alone.

====================  =====================================================================
an erasure is         once there is
====================  =====================================================================
recorded              its request, in `ledger.L`
confirmed             its `UploadErased` of this state: what was kept is deleted
gone                  the one of this state: a later look found nothing
====================  =====================================================================

All but the first are in `erasures.L`, where only the eraser writes.
"""

from datetime import datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.ledger import (
    UploadErased,
    UploadErasureRequested,
    UploadErasureState,
)
from erasestream.schemas.events.receipts import Receipts, Subject
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.account_records import AccountRecords
from erasestream.topics.consent.reader import ConsentReader, validated
from erasestream.topics.kafka.records import Record


class UploadErasure(NamedTuple):
    """How far the erasure of an upload is; a time is None until that step is done."""

    request: str
    upload: UploadId
    recorded: datetime
    """When the brokers had the request."""
    confirmed: datetime | None = None
    gone: datetime | None = None
    objects: int | None = None
    """Number of objects that were deleted."""
    receipt: str | None = None
    """Id of the receipt, which `attest` writes once all is gone; None without the secret."""


class UploadErasures:
    """Erasures of one account's uploads; repeated queries read new records only.

    `receipts` derives the ids of receipts.  Raises `InvalidEvent` (invalid_account).
    """

    def __init__(
        self, reader: ConsentReader, lane: Lane, account: str, *, receipts: Receipts | None = None
    ) -> None:
        owner = validated(account)
        self._states = _States(lane, owner, receipts)
        self._sources = [
            AccountRecords(reader, reader.place(name(lane), owner), apply=self._states.apply)
            for name in (ledger_of, erasures_of)
        ]

    def now(self) -> list[UploadErasure]:
        """Return all erasures, in the order of their requests.  Raises `Unavailable`."""
        for each in self._sources:
            each.catch_up()
        return self._states.all()


class _States:
    """The states that the records of one account add up to.  Pure."""

    def __init__(self, lane: Lane, account: AccountId, receipts: Receipts | None) -> None:
        self._lane, self._account, self._receipts = lane, account, receipts
        self._requests: dict[str, UploadErasure] = {}
        self._erased: dict[tuple[str, UploadErasureState], UploadErased] = {}

    def apply(self, record: Record) -> None:
        """Apply a record in the account's place."""
        events: tuple[type[UploadErasureRequested | UploadErased], ...] = (
            (UploadErased,)
            if record.at.topic == erasures_of(self._lane)
            else (UploadErasureRequested,)
        )
        try:
            entry = one_from_wire(events, record.headers, record.value)
        except InvalidEvent:
            return
        if (entry.lane, entry.account) != (self._lane, self._account):
            return
        match entry:
            case UploadErasureRequested():
                recorded = UploadErasure(entry.id, entry.upload, utc(record.appended_ms))
                self._requests.setdefault(entry.id, recorded)
            case UploadErased():
                self._erased.setdefault((entry.request, entry.state), entry)

    def all(self) -> list[UploadErasure]:
        """Return the erasures in the order of their requests."""
        return list(map(self._with_steps, self._requests.values()))

    def _with_steps(self, asked: UploadErasure) -> UploadErasure:
        confirmed = self._erased.get((asked.request, UploadErasureState.CONFIRMED))
        gone = self._erased.get((asked.request, UploadErasureState.GONE))
        last = gone or confirmed
        if last is None:
            return asked
        receipt = None
        if gone is not None and self._receipts is not None:
            subject = Subject(self._lane, self._account, asked.request)
            receipt = self._receipts.id("upload_erasure", subject)
        return asked._replace(
            confirmed=(confirmed or last).time,
            gone=gone.time if gone else None,
            objects=last.objects,
            receipt=receipt,
        )
