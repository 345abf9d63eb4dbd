"""Grants of each account in the order of its ledger, and which of them are erased.

Rules:

* `ledger.L` holds the decisions.  Erasures are taken from `erasures.L` alone: the lane's account
  service can write to the ledger, only the eraser to `erasures.L`.
* An entry counts only where it belongs (`ledger_place.py`).
* The first entry with a decision's id counts, and keeps its position in the order; later ones are
  ignored.
"""

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import UUID

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import belongs, ledger_key
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.records import Partition, Record

_ROW = struct.Struct("<16sQB")
"""A decision: its id, when its entry was appended, and its kind."""
_REVOKES, _GRANTS, _REVOKES_AS_OPERATOR = range(3)
_APPENDED = struct.Struct("<Q")
_APPENDED_AT, _GRANTS_AT = 16, 24

MANY = 256
"""Decisions of an account beyond which they are indexed, at some 150 bytes each."""

Rows = bytes | bytearray


class Erasures:
    """Grants whose erasure the eraser has confirmed, about 85 bytes each.  Pure.

    A grant's id is derived from lane and account (`ids.grant_id`), so that it suffices.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._erased: set[bytes] = set()

    def apply(self, record: Record) -> None:
        """Apply one record; records of other topics are ignored."""
        try:
            entry = from_wire(ErasureEntry, record.headers, record.value)
        except InvalidEvent:
            return
        if belongs(record, erasures_of(entry.lane), entry.account, self._partitions):
            self.add(entry.grant)

    def add(self, grant: GrantId) -> None:
        """Add a grant whose erasure is confirmed."""
        self._erased.add(UUID(grant).bytes)

    def __contains__(self, grant: GrantId) -> bool:
        """Return whether the erasure of this grant is confirmed."""
        return UUID(grant).bytes in self._erased


class GrantHistory:
    """All decisions of the ledger, and the confirmed erasures.  Pure: the state behind the view.

    The ledger is permanent, and so is this state: a decision that is processed late still needs
    the decisions before and after it.  25 bytes for each decision and about 170 for each account:
    203 MB for one decision of each of a million accounts, 27 MB for as many decisions of a
    thousand accounts (measured).

    The grants that a query returns are not erased, and at most `most`, if it is given.  A query
    takes no longer for an account with many decisions, most of whose grants are erased.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._decisions: dict[bytes, bytearray] = {}
        self._erased_below: dict[bytes, int] = {}
        """Row before which an account has no unerased grant; of accounts with many decisions."""
        self._indexes: dict[bytes, dict[bytes, int]] = {}
        """Rows of the decisions of accounts with many."""
        self._erased = Erasures(partitions)

    def apply(self, record: Record) -> None:
        """Apply one entry of a ledger or of confirmed erasures.

        Entries of other kinds, and entries where they do not belong, are ignored.
        """
        try:
            if type_of(record.headers) is DecisionEntry:
                entry = from_wire(DecisionEntry, record.headers, record.value)
                if belongs(record, ledger_of(entry.lane), entry.account, self._partitions):
                    self._append(entry, record.appended_ms)
            else:
                self._erased.apply(record)
        except InvalidEvent:
            return

    def _append(self, entry: DecisionEntry, appended_ms: int) -> None:
        key = ledger_key(entry.lane, entry.account)
        if self._row(key, entry.id) is not None:
            return
        rows = self._decisions.setdefault(key, bytearray())
        if rows:
            # Never backwards, so that times can be bisected; leaders' clocks differ a little.
            appended_ms = max(appended_ms, _appended_ms(rows, len(rows) // _ROW.size - 1))
        rows += _ROW.pack(UUID(entry.id).bytes, appended_ms, _kind(entry))

    def confirm(self, grant: GrantId) -> None:
        """Note an erasure that was acknowledged, before its entry is read back."""
        self._erased.add(grant)

    def is_erased(self, grant: GrantId) -> bool:
        """Return whether the eraser has confirmed the erasure of this grant."""
        return grant in self._erased

    def has(self, lane: Lane, account: AccountId, decision: str) -> bool:
        """Return whether the entry of this decision, and so all before it, were applied."""
        return self._row(ledger_key(lane, account), decision) is not None

    def ended_by_revocation(
        self, lane: Lane, account: AccountId, decision: str, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before a revocation; none if the ledger does not have it."""
        end = self._row(ledger_key(lane, account), decision) or 0
        return self._unerased(lane, account, end, most)

    def ended_by_grant(
        self, lane: Lane, account: AccountId, decision: str, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before the last revocation that precedes this grant.

        That revocation may have been compacted before the eraser read it.
        """
        row = self._row(ledger_key(lane, account), decision) or 0
        end = _last_revocation(self._rows(lane, account), row)
        return self._unerased(lane, account, end, most)

    def revoked_until(
        self, lane: Lane, account: AccountId, until_ms: int, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before the last revocation whose entry was appended until then."""
        rows = self._rows(lane, account)
        end = _last_revocation(rows, _appended_until(rows, until_ms))
        return self._unerased(lane, account, end, most)

    def appended_until(
        self, lane: Lane, account: AccountId, until_ms: int, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants whose entries were appended until then."""
        end = _appended_until(self._rows(lane, account), until_ms)
        return self._unerased(lane, account, end, most)

    def unerased_by_operator(
        self,
        lane: Lane,
        account: AccountId,
        decision: str,
        until_ms: int,
    ) -> list[GrantId] | None:
        """Return the unerased grants that an operator's revocation ends.

        Those whose entries precede the entry that the eraser writes of it, and were appended
        until then (`revocations.ends_until_ms`).  None if that entry was not applied: then a
        grant's may be missing, too.
        """
        row = self._row(ledger_key(lane, account), decision)
        if row is None:
            return None
        end = _appended_until(self._rows(lane, account), until_ms)
        return self._unerased(lane, account, min(row, end), None)

    def unerased(self, lane: Lane, account: AccountId) -> list[GrantId]:
        """Return the grants whose erasure the eraser has not confirmed."""
        return self._unerased(lane, account, len(self._rows(lane, account)) // _ROW.size, None)

    def unerased_before(
        self, lane: Lane, account: AccountId, decision: str
    ) -> list[GrantId] | None:
        """Return the unerased grants before this decision.

        None if the ledger does not have the decision (yet): the answer is unknown.
        """
        end = self._row(ledger_key(lane, account), decision)
        return None if end is None else self._unerased(lane, account, end, None)

    def _unerased(
        self, lane: Lane, account: AccountId, end: int, most: int | None
    ) -> list[GrantId]:
        """Return the unerased grants of the rows before `end`."""
        key = ledger_key(lane, account)
        erased_below = self._erased_below.get(key, 0)
        found: list[GrantId] = []
        rows = memoryview(self._rows(lane, account))[erased_below * _ROW.size : end * _ROW.size]
        for id_, _, kind in _ROW.iter_unpack(rows):
            if len(found) == most:
                break
            is_grant = kind == _GRANTS
            grant = grant_id(lane, account, str(UUID(bytes=id_))) if is_grant else None
            if grant is not None and grant not in self._erased:
                found.append(grant)
            elif not found:
                erased_below += 1
        if erased_below >= MANY:
            self._erased_below[key] = erased_below
        return found

    def _row(self, key: bytes, decision: str) -> int | None:
        """Return the number of a decision's row; None if the account has no such decision."""
        rows, wanted = self._decisions.get(key, b""), UUID(decision).bytes
        count = len(rows) // _ROW.size
        if count <= MANY:
            return _find(rows, wanted)
        index = self._indexes.setdefault(key, {})
        for number in range(len(index), count):
            begin = number * _ROW.size
            index[bytes(rows[begin : begin + len(wanted)])] = number
        return index.get(wanted)

    def _rows(self, lane: Lane, account: AccountId) -> Rows:
        return self._decisions.get(ledger_key(lane, account), b"")


def _find(rows: Rows, wanted: bytes) -> int | None:
    """Return the number of the row of a decision; None if there is none."""
    at = rows.find(wanted)
    while at >= 0 and at % _ROW.size:  # equal bytes across two rows
        at = rows.find(wanted, at + 1)
    return None if at < 0 else at // _ROW.size


def _kind(entry: DecisionEntry) -> int:
    if entry.is_operators_revocation:
        return _REVOKES_AS_OPERATOR
    return _GRANTS if entry.decision is Decision.GRANTED else _REVOKES


def _last_revocation(rows: Rows, end: int) -> int:
    """Return the number of the last row before `end` that revokes; 0 if there is none.

    Not of operators' revocations: they end grants by time (`ended_by_operator`).
    """
    return max(0, rows[_GRANTS_AT : end * _ROW.size : _ROW.size].rfind(_REVOKES))


def _appended_until(rows: Rows, until_ms: int) -> int:
    """Return how many decisions were appended until then."""
    numbers = range(len(rows) // _ROW.size)
    return bisect_right(numbers, until_ms, key=lambda number: _appended_ms(rows, number))


def _appended_ms(rows: Rows, number: int) -> int:
    (appended_ms,) = _APPENDED.unpack_from(rows, number * _ROW.size + _APPENDED_AT)
    return int(appended_ms)


class LedgerView:
    """Grants and erasures of the accounts of some lanes, read from the brokers."""

    def __init__(self, *, connection: Connection, partitions: Mapping[str, int]) -> None:
        """Read these ledgers and confirmed erasures; `partitions` are their partition counts."""
        self.grants = GrantHistory(partitions)
        self._complete: Counter[Partition] = Counter()
        self._view = CompactedView(connection=connection, topics=partitions, apply=self._apply)

    def catch_up(self, partitions: Iterable[Partition], *, deadline_s: float) -> set[Partition]:
        """Apply every record acknowledged in these before this call; return where that is done.

        A partition whose leader does not answer in time is not among them.
        """
        return self._view.catch_up_reachable(partitions, deadline_s=deadline_s)

    def complete_to(self, at: Partition) -> int:
        """Return the offset up to which every record of a partition was applied, from the first.

        These topics are written one record at a time, outside transactions, and nothing deletes
        from them, so that every offset has a record.  A gap stops the count.
        """
        return self._complete[at]

    def _apply(self, record: Record) -> None:
        self.grants.apply(record)
        if record.offset == self._complete[record.at]:
            self._complete[record.at] += 1

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
