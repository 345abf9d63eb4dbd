"""Which grants each account had, in which order, and which of them are erased.

What was decided stands in the ledger.  That a grant is erased is believed only of the topic
`erasures`: every lane can write to the ledger, and only the eraser to that one.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.topics.catalog.topic_names import ERASURES, LEDGER
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.records import Partition, Record


class LedgerDecision(NamedTuple):
    """A decision in the ledger: its id, when its entry was appended, and whether it grants."""

    id: bytes
    appended_ms: int
    grants: bool


_PACKED = struct.Struct("<16sQ?")


class Erasures:
    """The grants that the eraser says are erased; pure.

    Some 85 bytes each.  A grant's id names lane and account (`ids.grant_id`), so that nothing
    else is kept of them.
    """

    def __init__(self) -> None:
        self._erased: set[bytes] = set()

    def apply(self, record: Record) -> None:
        """Take one record into account; only those of the topic `erasures` say anything."""
        if record.at.topic != ERASURES:
            return
        try:
            entry = from_wire(ErasureEntry, record.headers, record.value)
        except InvalidEvent:
            return
        self._erased.add(UUID(entry.grant).bytes)

    def __contains__(self, grant: GrantId) -> bool:
        """Whether this one is erased."""
        return UUID(grant).bytes in self._erased


class GrantHistory:
    """The state behind the view; pure.

    What stands in the ledger for ever is kept here for as long: a decision that is come to
    late must still find what was before it, and what came after.  That is 25 bytes for each
    decision and some 170 for each account: 203 MB for the decisions of a million accounts that
    made one each, 27 MB for as many of a thousand accounts (measured).
    """

    def __init__(self) -> None:
        self._decisions: dict[bytes, bytearray] = {}
        self._erased = Erasures()

    def apply(self, record: Record) -> None:
        """Take one entry of the ledger or of `erasures` into account.

        Entries of other kinds change nothing, nor does one in the other topic.
        """
        key = record.key or b""
        try:
            event = type_of(record.headers)
            if event is DecisionEntry and record.at.topic == LEDGER:
                entry = from_wire(DecisionEntry, record.headers, record.value)
                self._decided(key, entry, record.appended_ms)
            else:
                self._erased.apply(record)
        except InvalidEvent:
            return

    def _decided(self, key: bytes, entry: DecisionEntry, appended_ms: int) -> None:
        if key != ledger_key(entry.lane, entry.account):
            return
        grants = entry.decision is Decision.GRANTED
        packed = _PACKED.pack(UUID(entry.id).bytes, appended_ms, grants)
        self._decisions.setdefault(key, bytearray()).extend(packed)

    def has(self, lane: Lane, account: AccountId, decision: str) -> bool:
        """Whether the entry of this decision was applied, and so all that were before it."""
        return self._place(self._made(lane, account), decision) is not None

    def ended_by_revocation(self, lane: Lane, account: AccountId, decision: str) -> list[GrantId]:
        """The grants that a revocation ends: those before it, and itself if it is a void grant.

        None if the ledger does not have it.  Whether a grant is erased already plays no part:
        marking it again changes nothing.
        """
        made = self._made(lane, account)
        place = self._place(made, decision)
        return [] if place is None else _grants(lane, account, made[: place + 1])

    def ended_by_grant(self, lane: Lane, account: AccountId, decision: str) -> list[GrantId]:
        """The grants before the last revocation before this grant.

        That revocation may be compacted away before it was come to.
        """
        made = self._made(lane, account)
        until = self._place(made, decision) or 0
        revocations = [n for n, each in enumerate(made[:until]) if not each.grants]
        return _grants(lane, account, made[: revocations[-1]] if revocations else [])

    def appended_until(self, lane: Lane, account: AccountId, until_ms: int) -> list[GrantId]:
        """The grants whose entries were appended until then.

        For a record that says nothing, or that the ledger does not have.
        """
        made = self._made(lane, account)
        return _grants(lane, account, [each for each in made if each.appended_ms <= until_ms])

    def open(self, lane: Lane, account: AccountId) -> list[GrantId]:
        """The grants whose erasure the eraser has not confirmed."""
        return self._not_erased(lane, account, self._made(lane, account))

    def open_before(self, lane: Lane, account: AccountId, decision: str) -> list[GrantId] | None:
        """Those among them that were made before this decision.

        None if the ledger does not have it (yet): then nothing can be said.
        """
        made = self._made(lane, account)
        place = self._place(made, decision)
        return None if place is None else self._not_erased(lane, account, made[:place])

    def is_erased(self, grant: GrantId) -> bool:
        """Whether the eraser has confirmed the erasure of this grant."""
        return grant in self._erased

    def _not_erased(
        self, lane: Lane, account: AccountId, made: list[LedgerDecision]
    ) -> list[GrantId]:
        return [g for g in _grants(lane, account, made) if g not in self._erased]

    def _made(self, lane: Lane, account: AccountId) -> list[LedgerDecision]:
        packed = self._decisions.get(ledger_key(lane, account), b"")
        return list(map(LedgerDecision._make, _PACKED.iter_unpack(packed)))

    @staticmethod
    def _place(made: list[LedgerDecision], decision: str) -> int | None:
        wanted = UUID(decision).bytes
        return next((n for n, each in enumerate(made) if each.id == wanted), None)


def _grants(lane: Lane, account: AccountId, made: list[LedgerDecision]) -> list[GrantId]:
    return [grant_id(lane, account, str(UUID(bytes=each.id))) for each in made if each.grants]


def ledger_key(lane: Lane, account: AccountId) -> bytes:
    """The key that all entries about an account have in the ledger."""
    return f"{lane}/{account}".encode()


class LedgerView:
    """The grants of all accounts, and which are erased."""

    def __init__(self, *, connection: Connection, partitions: Mapping[str, int]) -> None:
        """`partitions`: how many the ledger and `erasures` have."""
        self.grants = GrantHistory()
        topics = {name: partitions[name] for name in (LEDGER, ERASURES)}
        self._view = CompactedView(connection=connection, topics=topics, apply=self.grants.apply)

    def catch_up(self, *, deadline_s: float) -> set[Partition]:
        """Apply all that was acknowledged before this call; of which partitions that is known.

        Those whose leader does not answer in time are not among them.
        """
        return self._view.catch_up_with_known(deadline_s=deadline_s)

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
