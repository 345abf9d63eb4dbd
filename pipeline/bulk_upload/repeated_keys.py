"""Find rows that give the idempotency key of another row to another image.

Rows of one account with one key have one upload id, and so one result.  Rules:

* A row with the path and the reference of an earlier row with its key is the same upload: it is
  sent, and consumers keep one result.
* Any other row with the key of an earlier row is at fault: no result would be its own.
* Both depend on the manifest alone, never on images or outcomes, so that every run over it, resumed
  or not, decides the same.

The manifest is read once before.  Meanwhile each byte of it takes one bit of memory, and afterwards
only rows are held whose keys may occur twice.
"""

from collections.abc import Iterable
from typing import Self

from erasestream.pipeline.bulk_upload.checkpoint import RowSet
from erasestream.pipeline.bulk_upload.manifest_reader import BadRow, Row

_MIN_SLOTS = 1 << 16


class RepeatedKeys:
    """Compares the rows of a manifest, which are passed in their order."""

    def __init__(self, *, rows: int, slots: int, repeated: frozenset[int]) -> None:
        self.rows = rows
        """Number of rows in the manifest."""
        self._slots = slots
        self._repeated = repeated
        self._first: dict[tuple[str, str], Row] = {}

    @classmethod
    def find(cls, rows: Iterable[Row | BadRow], *, manifest_bytes: int) -> Self:
        """Read all rows of a manifest of this size."""
        slots = max(_MIN_SLOTS, manifest_bytes)
        seen, repeated, count = RowSet(), set[int](), 0
        for row in rows:
            count += 1
            if isinstance(row, Row) and row.idempotency_key is not None:
                slot = hash((row.account, row.idempotency_key)) % slots
                if slot in seen:
                    repeated.add(slot)
                seen.add(slot)
        return cls(rows=count, slots=slots, repeated=frozenset(repeated))

    def conflict(self, row: Row) -> int | None:
        """Return the number of the first row with the key, if that is another upload."""
        if row.idempotency_key is None:
            return None
        key = row.account, row.idempotency_key
        if hash(key) % self._slots not in self._repeated:
            return None
        first = self._first.setdefault(key, row)
        same = (first.path, first.reference) == (row.path, row.reference)
        return None if same else first.number
