"""Table of the active grants of one lane, about forty bytes each.

A dictionary of a million accounts and their grants takes about 800 MB (measured); this table 50.

* A grant is one row: 16 bytes of the account's digest, 16 of the decision's id, 8 of the broker's
  time.  Everything else about a grant is derived on request.
* The digest is a keyed hash (BLAKE2b, 128 bits).  The key is random, so that no attacker can choose
  accounts that share a bucket or a digest: among a million accounts the chance of a collision is
  1 in 10^26.  No account id is in memory.
* A bucket is the concatenation of the rows of all accounts that Python's own keyed hash assigns to
  it.  If few accounts are granted, most lookups find no bucket and end there.  The last row
  replaces a deleted one, so that buckets have no holes.
"""

import hashlib
import os
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple
from uuid import UUID

_ROW = Struct(">16s16sq")
_ROW_BYTES = _ROW.size
_DIGEST_BYTES = 16
_BUCKETS = 1 << 16
"""With ten million grants a bucket has about 150 rows, which `find` searches quickly."""


class Granted(NamedTuple):
    """A row: the granting decision, and when the broker appended it."""

    decision_id: str
    appended_ms: int


class GrantTable:
    """Active grants by account."""

    def __init__(self, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._keyed = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=random(_DIGEST_BYTES))
        self._buckets: dict[int, bytearray] = {}

    def put(self, account: bytes, *, decision_id: str, appended_ms: int) -> None:
        """Set the account's grant."""
        digest, bucket = self._digest(account), _bucket(account)
        rows = self._buckets.get(bucket)
        if rows is None:
            rows = self._buckets[bucket] = bytearray()
        row = _ROW.pack(digest, bytes.fromhex(decision_id.replace("-", "")), appended_ms)
        if digest not in rows or (at := _find(rows, digest)) < 0:
            rows += row
        else:
            rows[at : at + _ROW_BYTES] = row

    def drop(self, account: bytes) -> None:
        """Delete the account's grant, if any."""
        rows = self._buckets.get(_bucket(account))
        if rows is None or (at := _find(rows, self._digest(account))) < 0:
            return
        last = rows[-_ROW_BYTES:]
        rows[at : at + _ROW_BYTES] = last
        del rows[-_ROW_BYTES:]

    def get(self, account: bytes) -> Granted | None:
        """Return the account's grant, or None."""
        rows = self._buckets.get(_bucket(account))
        if rows is None or (at := _find(rows, self._digest(account))) < 0:
            return None
        _, decision_id, appended_ms = _ROW.unpack_from(rows, at)
        return Granted(str(UUID(bytes=decision_id)), appended_ms)

    def clear(self) -> None:
        """Delete all grants."""
        self._buckets.clear()

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values())) // _ROW_BYTES

    def _digest(self, account: bytes) -> bytes:
        digest = self._keyed.copy()
        digest.update(account)
        return digest.digest()


def _bucket(account: bytes) -> int:
    return hash(account) % _BUCKETS


def _find(rows: bytes | bytearray, digest: bytes) -> int:
    """Return the start of the row with this digest; -1 if there is none."""
    at = rows.find(digest)
    while at % _ROW_BYTES and at >= 0:  # equal bytes across two rows, or within an id
        at = rows.find(digest, at + 1)
    return at
