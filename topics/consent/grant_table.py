"""The grants in force of one lane, in some forty bytes each.

A dictionary of a million accounts and their grants takes some 800 MB (measured); this, 50.

* A grant is one row: 16 bytes that stand for the account, 16 of the decision's id, 8 of the
  broker's time.  What else there is to a grant is derived when somebody asks for it.
* An account stands as a keyed hash (BLAKE2b, 128 bits).  The key is random, so that nobody can
  choose accounts that meet in one bucket, or in one name: among a million accounts two have
  the same name with a chance of 1 in 10^26.  No account's id lies in memory.
* A bucket has the rows of all accounts that Python's own keyed hash puts there, one after the
  other: where there is no bucket, and few accounts are granted, nothing more is asked.  The last
  row takes the place of one that goes, so that buckets have no holes.
"""

import hashlib
import os
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple
from uuid import UUID

_ROW = Struct(">16s16sq")
_ROW_BYTES = _ROW.size
_NAME_BYTES = 16
_BUCKETS = 1 << 14
"""With a million grants a bucket has about 60 rows, which `find` passes over in an instant."""


class Granted(NamedTuple):
    """A row: the decision that is the grant, and when the broker appended it."""

    decision_id: str
    appended_ms: int


class GrantTable:
    """Accounts and their grants."""

    def __init__(self, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._key = random(_NAME_BYTES)
        self._buckets: dict[int, bytearray] = {}

    def put(self, account: bytes, *, decision_id: str, appended_ms: int) -> None:
        """This is the account's grant now."""
        name, bucket = self._name(account), _bucket(account)
        rows = self._buckets.get(bucket)
        if rows is None:
            rows = self._buckets[bucket] = bytearray()
        row = _ROW.pack(name, bytes.fromhex(decision_id.replace("-", "")), appended_ms)
        at = _find(rows, name)
        if at < 0:
            rows += row
        else:
            rows[at : at + _ROW_BYTES] = row

    def drop(self, account: bytes) -> None:
        """The account has no grant now."""
        rows = self._buckets.get(_bucket(account))
        if rows is None or (at := _find(rows, self._name(account))) < 0:
            return
        last = rows[-_ROW_BYTES:]
        rows[at : at + _ROW_BYTES] = last
        del rows[-_ROW_BYTES:]

    def get(self, account: bytes) -> Granted | None:
        """The account's grant."""
        rows = self._buckets.get(_bucket(account))
        if rows is None or (at := _find(rows, self._name(account))) < 0:
            return None
        _, decision_id, appended_ms = _ROW.unpack_from(rows, at)
        return Granted(str(UUID(bytes=decision_id)), appended_ms)

    def clear(self) -> None:
        """Nobody has a grant now."""
        self._buckets.clear()

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values())) // _ROW_BYTES

    def _name(self, account: bytes) -> bytes:
        """What stands for the account."""
        return hashlib.blake2b(account, digest_size=_NAME_BYTES, key=self._key).digest()


def _bucket(account: bytes) -> int:
    return hash(account) % _BUCKETS


def _find(rows: bytes | bytearray, name: bytes) -> int:
    """Where the row of this name begins; -1 if there is none."""
    at = rows.find(name)
    while at % _ROW_BYTES and at >= 0:  # bytes of two rows, or of an id, that look like it
        at = rows.find(name, at + 1)
    return at
