"""Grants of each account in the order of the ledger, and which of them are erased.

The ledger holds the decisions.  Erasures are taken from the topic `erasures` alone: every lane
can write to the ledger, only the eraser to `erasures`.
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
    """A decision in the ledger: its id, append time, and whether it grants."""

    id: bytes
    appended_ms: int
    grants: bool


_PACKED = struct.Struct("<16sQ?")


class Erasures:
    """Grants whose erasure the eraser has confirmed, about 85 bytes each.  Pure.

    A grant's id is derived from lane and account (`ids.grant_id`), so that it suffices.
    """

    def __init__(self) -> None:
        self._erased: set[bytes] = set()

    def apply(self, record: Record) -> None:
        """Apply one record; records of other topics are ignored."""
        if record.at.topic != ERASURES:
            return
        try:
            entry = from_wire(ErasureEntry, record.headers, record.value)
        except InvalidEvent:
            return
        self._erased.add(UUID(entry.grant).bytes)

    def __contains__(self, grant: GrantId) -> bool:
        """Return whether the erasure of this grant is confirmed."""
        return UUID(grant).bytes in self._erased


class GrantHistory:
    """All decisions of the ledger, and the confirmed erasures.  Pure: the state behind the view.

    The ledger is permanent, and so is this state: a decision that is processed late still needs
    the decisions before and after it.  25 bytes for each decision and about 170 for each account:
    203 MB for one decision of each of a million accounts, 27 MB for as many decisions of a
    thousand accounts (measured).
    """

    def __init__(self) -> None:
        self._decisions: dict[bytes, bytearray] = {}
        self._erased = Erasures()

    def apply(self, record: Record) -> None:
        """Apply one entry of the ledger or of `erasures`.

        Entries of other kinds, and entries in the wrong topic, are ignored.
        """
        key = record.key or b""
        try:
            event = type_of(record.headers)
            if event is DecisionEntry and record.at.topic == LEDGER:
                entry = from_wire(DecisionEntry, record.headers, record.value)
                self._append(key, entry, record.appended_ms)
            else:
                self._erased.apply(record)
        except InvalidEvent:
            return

    def _append(self, key: bytes, entry: DecisionEntry, appended_ms: int) -> None:
        if key != ledger_key(entry.lane, entry.account):
            return
        grants = entry.decision is Decision.GRANTED
        packed = _PACKED.pack(UUID(entry.id).bytes, appended_ms, grants)
        self._decisions.setdefault(key, bytearray()).extend(packed)

    def has(self, lane: Lane, account: AccountId, decision: str) -> bool:
        """Return whether the entry of this decision, and so all before it, were applied."""
        return self._index(self._decisions_of(lane, account), decision) is not None

    def ended_by_revocation(self, lane: Lane, account: AccountId, decision: str) -> list[GrantId]:
        """Return the grants that a revocation ends: those before it, and itself if a void grant.

        Empty if the ledger does not have the decision.  Includes erased grants: marking them
        again changes nothing.
        """
        decisions = self._decisions_of(lane, account)
        index = self._index(decisions, decision)
        return [] if index is None else _grants(lane, account, decisions[: index + 1])

    def ended_by_grant(self, lane: Lane, account: AccountId, decision: str) -> list[GrantId]:
        """Return the grants before the last revocation that precedes this grant.

        That revocation may have been compacted before the eraser read it.
        """
        decisions = self._decisions_of(lane, account)
        until = self._index(decisions, decision) or 0
        revocations = [n for n, each in enumerate(decisions[:until]) if not each.grants]
        return _grants(lane, account, decisions[: revocations[-1]] if revocations else [])

    def appended_until(self, lane: Lane, account: AccountId, until_ms: int) -> list[GrantId]:
        """Return the grants whose entries were appended until then.

        For a record that is unreadable, or whose decision the ledger does not have.
        """
        decisions = self._decisions_of(lane, account)
        return _grants(lane, account, [each for each in decisions if each.appended_ms <= until_ms])

    def unerased(self, lane: Lane, account: AccountId) -> list[GrantId]:
        """Return the grants whose erasure the eraser has not confirmed."""
        return self._without_erased(lane, account, self._decisions_of(lane, account))

    def unerased_before(
        self, lane: Lane, account: AccountId, decision: str
    ) -> list[GrantId] | None:
        """Return the unerased grants before this decision.

        None if the ledger does not have the decision (yet): the answer is unknown.
        """
        decisions = self._decisions_of(lane, account)
        index = self._index(decisions, decision)
        return None if index is None else self._without_erased(lane, account, decisions[:index])

    def is_erased(self, grant: GrantId) -> bool:
        """Return whether the eraser has confirmed the erasure of this grant."""
        return grant in self._erased

    def _without_erased(
        self, lane: Lane, account: AccountId, decisions: list[LedgerDecision]
    ) -> list[GrantId]:
        return [g for g in _grants(lane, account, decisions) if g not in self._erased]

    def _decisions_of(self, lane: Lane, account: AccountId) -> list[LedgerDecision]:
        packed = self._decisions.get(ledger_key(lane, account), b"")
        return list(map(LedgerDecision._make, _PACKED.iter_unpack(packed)))

    @staticmethod
    def _index(decisions: list[LedgerDecision], decision: str) -> int | None:
        wanted = UUID(decision).bytes
        return next((n for n, each in enumerate(decisions) if each.id == wanted), None)


def _grants(lane: Lane, account: AccountId, decisions: list[LedgerDecision]) -> list[GrantId]:
    return [grant_id(lane, account, str(UUID(bytes=each.id))) for each in decisions if each.grants]


def ledger_key(lane: Lane, account: AccountId) -> bytes:
    """Return the key of all entries about an account in the ledger."""
    return f"{lane}/{account}".encode()


class LedgerView:
    """Grants and erasures of all accounts, read from the brokers."""

    def __init__(self, *, connection: Connection, partitions: Mapping[str, int]) -> None:
        """Read both topics; `partitions` are their partition counts."""
        self.grants = GrantHistory()
        topics = {name: partitions[name] for name in (LEDGER, ERASURES)}
        self._view = CompactedView(connection=connection, topics=topics, apply=self.grants.apply)

    def catch_up(self, *, deadline_s: float) -> set[Partition]:
        """Apply every record acknowledged before this call, and return the complete partitions.

        A partition whose leader does not answer in time is not among them.
        """
        return self._view.catch_up_reachable(deadline_s=deadline_s)

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
