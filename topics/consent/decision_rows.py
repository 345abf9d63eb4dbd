"""Decisions of each account as rows of 25 bytes, in the order of the ledger.

Rules:

* The first row of a decision's id counts, and keeps its number; later ones are ignored.
* Times of rows never go backwards, so that they can be bisected.
* Rows are only added, so that a row's number stays true.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from uuid import UUID

from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import DecisionEntry

_ROW = struct.Struct("<16sQB")
"""A decision: its id, when its entry was appended, and its kind."""
_REVOKES, _GRANTS, _REVOKES_AS_OPERATOR, _CLOSES = range(4)
_APPENDED = struct.Struct("<Q")
_APPENDED_AT, _GRANTS_AT = 16, 24

MANY = 256
"""Decisions of an account beyond which they are indexed, at some 150 bytes each."""

DECISION_BYTES = _ROW.size

Rows = bytes | bytearray


class DecisionRows:
    """Rows of all accounts, by the key of the account's entries (`ledger_place.ledger_key`)."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytearray] = {}
        self._indexes: dict[bytes, dict[bytes, int]] = {}
        """Rows of the decisions of accounts with many."""

    def append(self, key: bytes, entry: DecisionEntry, appended_ms: int) -> None:
        """Add a decision, unless the account has one of this id."""
        self.append_packed(key, pack_decision(entry, appended_ms))

    def append_packed(self, key: bytes, row: bytes) -> None:
        """Add the row of a decision, unless the account has one of its id."""
        id_, appended_ms, kind = _ROW.unpack(row)
        if self._number(key, id_) is not None:
            return
        rows = self._rows.setdefault(key, bytearray())
        if rows:
            # Leaders' clocks differ a little.
            appended_ms = max(appended_ms, _appended_ms(rows, len(rows) // _ROW.size - 1))
        rows += _ROW.pack(id_, appended_ms, kind)

    def count(self, key: bytes) -> int:
        """Return how many decisions an account has."""
        return len(self._of(key)) // _ROW.size

    def number(self, key: bytes, decision: str) -> int | None:
        """Return the number of a decision's row; None if the account has no such decision."""
        return self._number(key, UUID(decision).bytes)

    def _number(self, key: bytes, wanted: bytes) -> int | None:
        rows = self._of(key)
        count = len(rows) // _ROW.size
        if count <= MANY:
            return _find(rows, wanted)
        index = self._indexes.setdefault(key, {})
        for number in range(len(index), count):
            begin = number * _ROW.size
            index[bytes(rows[begin : begin + len(wanted)])] = number
        return index.get(wanted)

    def row(self, key: bytes, number: int) -> tuple[str, int]:
        """Return the id of a row's decision, and when its entry was appended, in ms since 1970."""
        id_, appended_ms, _ = _ROW.unpack_from(self._of(key), number * _ROW.size)
        return str(UUID(bytes=id_)), appended_ms

    def last_revocation(self, key: bytes, end: int) -> int:
        """Return the number of the last row before `end` that revokes; 0 if there is none.

        Not of operators' revocations: they end grants by time (`unerased_by_operator`).
        """
        kinds = self._kinds(key, end)
        return max(0, kinds.rfind(_REVOKES), kinds.rfind(_CLOSES))

    def ended(self, key: bytes, end: int) -> int:
        """Return up to which row grants have ended, by the rows before `end`.

        Up to the last revocation; all of them once the account is closed.
        """
        return end if _CLOSES in self._kinds(key, end) else self.last_revocation(key, end)

    def appended_until(self, key: bytes, until_ms: int) -> int:
        """Return how many decisions were appended until then."""
        rows = self._of(key)
        numbers = range(len(rows) // _ROW.size)
        return bisect_right(numbers, until_ms, key=lambda number: _appended_ms(rows, number))

    def granting(self, key: bytes, begin: int, end: int) -> Iterator[str | None]:
        """Yield of each row from `begin` to `end` the decision's id if it grants, else None."""
        rows = memoryview(self._of(key))[begin * _ROW.size : end * _ROW.size]
        for id_, _, kind in _ROW.iter_unpack(rows):
            yield str(UUID(bytes=id_)) if kind == _GRANTS else None

    def _kinds(self, key: bytes, end: int) -> Rows:
        return self._of(key)[_GRANTS_AT : end * _ROW.size : _ROW.size]

    def _of(self, key: bytes) -> Rows:
        return self._rows.get(key, b"")


def pack_decision(entry: DecisionEntry, appended_ms: int) -> bytes:
    """Return the row of a decision."""
    return _ROW.pack(UUID(entry.id).bytes, appended_ms, _kind(entry))


def _find(rows: Rows, wanted: bytes) -> int | None:
    """Return the number of the row of a decision; None if there is none."""
    at = rows.find(wanted)
    while at >= 0 and at % _ROW.size:  # equal bytes across two rows
        at = rows.find(wanted, at + 1)
    return None if at < 0 else at // _ROW.size


def _kind(entry: DecisionEntry) -> int:
    if entry.is_operators_revocation:
        return _REVOKES_AS_OPERATOR
    if entry.is_closing:
        return _CLOSES
    return _GRANTS if entry.decision is Decision.GRANTED else _REVOKES


def _appended_ms(rows: Rows, number: int) -> int:
    (appended_ms,) = _APPENDED.unpack_from(rows, number * _ROW.size + _APPENDED_AT)
    return int(appended_ms)
