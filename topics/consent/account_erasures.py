"""How far the erasures of one account's grants are, from the topics alone.

For an account page: the service that records an owner's decisions may read all of it.

====================  =====================================================================
a grant is            once there is
====================  =====================================================================
recorded              a revocation after it, in `ledger.L` or by an operator in `revocations.L`
confirmed             its `ErasureEntry`: nothing opens any more
without keys          an `ErasureProgress`: its keys are deleted, and its objects are next
gone                  its `GrantErased`: all is deleted, and a later look found nothing
unrecoverable         the one of this state: the master keys are destroyed, too
====================  =====================================================================

All but the first are in `erasures.L`, where only the eraser writes.  Its entry names the decision
that ended the grant; before there is one, the first revocation after the grant counts.
"""

from datetime import datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    ErasureProgress,
    GrantErased,
    KeyState,
)
from erasestream.schemas.events.receipts import Receipts, Subject
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.account_records import AccountRecords
from erasestream.topics.consent.reader import ConsentReader, validated
from erasestream.topics.consent.revocations import ends_until_ms, revocation_place
from erasestream.topics.kafka.records import Record

_ERASURES: tuple[type[ErasureEntry | ErasureProgress | GrantErased], ...] = (
    ErasureEntry,
    ErasureProgress,
    GrantErased,
)


class ErasureState(NamedTuple):
    """How far the erasure of a grant is; a time is None until that step is done."""

    grant: GrantId
    recorded: datetime
    """When the brokers had the decision that ended the grant."""
    confirmed: datetime | None = None
    """When the vault had the erasure marker."""
    keys_deleted: datetime | None = None
    gone: datetime | None = None
    """When a last look found neither a key nor an object."""
    unrecoverable: datetime | None = None
    """When the master keys that wrapped the grant's keys were seen destroyed."""
    objects: int | None = None
    """Number of the grant's objects, deleted or not; None until the eraser has counted them."""
    objects_left: int | None = None
    """Number of those not deleted yet, some seconds ago."""
    receipt: str | None = None
    """Id of the receipt, which `attest` writes once all is gone; None without the secret."""


class AccountErasures:
    """Erasures of one account; repeated queries read new records only.

    `receipts` derives the ids of receipts.  Raises `InvalidEvent` (invalid_account).
    """

    def __init__(
        self, reader: ConsentReader, lane: Lane, account: str, *, receipts: Receipts | None = None
    ) -> None:
        owner = validated(account)
        self._states = ErasureStates(lane, owner, receipts)
        entries, erasures = (reader.place(name(lane), owner) for name in (ledger_of, erasures_of))
        self._sources = [
            AccountRecords(reader, entries, apply=self._states.apply_decision),
            AccountRecords(
                reader, revocation_place(lane, owner), apply=self._states.apply_revocation
            ),
            AccountRecords(reader, erasures, apply=self._states.apply_erasure),
        ]

    def now(self) -> list[ErasureState]:
        """Return the grants that have ended, in their order.  Raises `Unavailable`."""
        for each in self._sources:
            each.catch_up()
        return self._states.all()


class _Granted(NamedTuple):
    grant: GrantId
    appended_ms: int
    ended_ms: int | None = None
    """When the first revocation after it was appended."""


class ErasureStates:
    """The states that the records of one account add up to.  Pure."""

    def __init__(self, lane: Lane, account: AccountId, receipts: Receipts | None = None) -> None:
        self._lane, self._account, self._receipts = lane, account, receipts
        self._decisions: set[str] = set()
        self._granted: list[_Granted] = []
        self._ended = 0
        """Number of those that an entry in the ledger has ended: the first ones."""
        self._is_closed = False
        self._revoked_ms: list[int] = []
        """When operators revoked."""
        self._erasures: dict[GrantId, ErasureState] = {}

    def apply_decision(self, record: Record) -> None:
        """Apply a record of `ledger.L` in the account's place."""
        try:
            entry = one_from_wire((DecisionEntry,), record.headers, record.value)
        except InvalidEvent:
            return
        if (entry.lane, entry.account) != (self._lane, self._account):
            return
        if entry.id in self._decisions or entry.is_operators_revocation:
            return
        self._decisions.add(entry.id)
        self._is_closed = self._is_closed or entry.is_closing
        if entry.decision is Decision.GRANTED:
            grant = grant_id(self._lane, self._account, entry.id)
            ended_ms = record.appended_ms if self._is_closed else None
            self._granted.append(_Granted(grant, record.appended_ms, ended_ms))
        else:
            for n in range(self._ended, len(self._granted)):
                self._granted[n] = self._granted[n]._replace(ended_ms=record.appended_ms)
            self._ended = len(self._granted)

    def apply_revocation(self, record: Record) -> None:
        """Apply a record of `revocations.L` under the account's key: each one revokes."""
        self._revoked_ms.append(record.appended_ms)

    def apply_erasure(self, record: Record) -> None:
        """Apply a record of `erasures.L` in the account's place."""
        try:
            entry = one_from_wire(_ERASURES, record.headers, record.value)
        except InvalidEvent:
            return
        if (entry.lane, entry.account) != (self._lane, self._account):
            return
        before = self._erasures.get(entry.grant)
        match entry:
            case ErasureEntry() if before is None:
                recorded = entry.recorded or entry.time
                self._erasures[entry.grant] = ErasureState(entry.grant, recorded, entry.time)
            case ErasureProgress() if before is not None and before.gone is None:
                self._erasures[entry.grant] = before._replace(
                    keys_deleted=before.keys_deleted or entry.time,
                    objects=entry.deleted + entry.left,
                    objects_left=entry.left,
                )
            case GrantErased() if before is not None:
                self._erasures[entry.grant] = self._end(before, entry)
            case _:
                pass

    def all(self) -> list[ErasureState]:
        """Return the grants that have ended: those in the ledger first, in its order."""
        found = {}
        for each in self._granted:
            ended_ms = self._ended_ms(each)
            if each.grant in self._erasures:
                found[each.grant] = self._erasures[each.grant]
            elif ended_ms is not None:
                found[each.grant] = ErasureState(each.grant, utc(ended_ms))
        return list((found | self._erasures).values())

    def _ended_ms(self, granted: _Granted) -> int | None:
        by_operator = [
            ms for ms in self._revoked_ms if granted.appended_ms <= ends_until_ms(utc(ms))
        ]
        return min(filter(None, [granted.ended_ms, *by_operator]), default=None)

    def _end(self, before: ErasureState, entry: GrantErased) -> ErasureState:
        if entry.state is KeyState.UNRECOVERABLE:
            return before._replace(unrecoverable=before.unrecoverable or entry.time)
        if before.gone is not None:
            return before
        subject = Subject(self._lane, self._account, entry.grant)
        receipt = self._receipts.id("erasure", subject) if self._receipts else None
        return before._replace(
            keys_deleted=before.keys_deleted or entry.time,
            gone=entry.time,
            objects=entry.objects,
            objects_left=0,
            receipt=receipt,
        )
