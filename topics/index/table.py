"""Table of the images of one lane, 52 bytes each.

* An image is one row: the 16 bytes of its key, when it was uploaded, where its result is, and what
  its gateway has promised.  Neither account nor id is in memory.
* A bucket is the concatenation of the rows that Python's own keyed hash assigns to it.
* Rows of twelve hours are one generation, which is dropped as a whole: no row is ever moved.
* The first result of an image counts; a mark may come before it or after.
* Two uploads can have one id.  An image is retained if either is: to delete it is to erase that.
* A deleted image counts as retained if its erasure was requested, whatever its result.

Written by one thread, and read by any: a row is replaced by one call of the interpreter.
"""

from datetime import datetime
from struct import Struct
from typing import NamedTuple

from erasestream.schemas.events.base import utc
from erasestream.schemas.events.image_index import ImageState
from erasestream.topics.index.records import REFERENCE_BYTES, IndexedResult, Mark

_ROW = Struct(f">16sqqHBB{REFERENCE_BYTES}s")
_ROW_BYTES = _ROW.size
_BUCKETS = 1 << 16
GENERATION_MS = 12 * 3600 * 1000
_NO_OFFSET = -1
_DELETED, _RETAINED = 1, 2
NO_REFERENCE = bytes(REFERENCE_BYTES)


class Place(NamedTuple):
    """Where a result is in the lane's topic of results."""

    partition: int
    offset: int


class Image(NamedTuple):
    """An image as far as it is known.  `place` is None before it has a result."""

    uploaded_at: datetime
    place: Place | None
    code: str | None
    """That of a failed result."""
    is_retained: bool
    """Whether it went to the encryption sink as well; before its result, whether it may."""
    is_deleted: bool
    reference: bytes


class _Row(NamedTuple):
    key: bytes
    uploaded_ms: int
    offset: int
    partition: int
    flags: int
    code: int
    reference: bytes


_Fields = tuple[bytes, int, int, int, int, int, bytes]
"""Those of a row."""


class ImageTable:
    """Images by their key."""

    def __init__(self) -> None:
        self._generations: dict[int, dict[int, bytearray]] = {}
        self._codes: list[str | None] = [None]

    def __len__(self) -> int:
        return (
            sum(len(rows) for buckets in self._generations.values() for rows in buckets.values())
            // _ROW_BYTES
        )

    def put(self, result: IndexedResult) -> bool:
        """Take a result; return False if the image has one."""
        key, _, partition, offset, uploaded_ms, code, is_retained, reference = result
        flags, found = _RETAINED if is_retained else 0, self._find(key)
        if found is not None:
            row = found[2]
            if row.offset != _NO_OFFSET:
                _add_flags(*found, flags)
                return False
            if row.flags & _DELETED:
                flags |= row.flags
        number = 0 if code is None else self._code(code)
        fields = (key, uploaded_ms, offset, partition, flags, number, reference or NO_REFERENCE)
        if found is None:
            self._add(fields)
        else:
            _write(found[0], found[1], fields)
        return True

    def mark(self, mark: Mark) -> None:
        """Take a mark."""
        is_deleted = mark.state is ImageState.DELETED
        flags = _DELETED * is_deleted | _RETAINED * mark.is_retained
        found = self._find(mark.key)
        if found is None:
            self._add((mark.key, mark.at_ms, _NO_OFFSET, 0, flags, 0, NO_REFERENCE))
        elif is_deleted:
            rows, at, row = found
            is_known = row.offset != _NO_OFFSET or row.flags & _DELETED
            _write(rows, at, row._replace(flags=flags | (row.flags if is_known else 0)))
        elif found[2].offset == _NO_OFFSET and not found[2].flags & _DELETED:
            _add_flags(*found, flags)

    def get(self, key: bytes) -> Image | None:
        """Return what is known about an image; None if it is unknown."""
        found = self._find(key)
        if found is None:
            return None
        row = found[2]
        return Image(
            uploaded_at=utc(row.uploaded_ms),
            place=None if row.offset == _NO_OFFSET else Place(row.partition, row.offset),
            code=self._codes[row.code],
            is_retained=bool(row.flags & _RETAINED),
            is_deleted=bool(row.flags & _DELETED),
            reference=row.reference,
        )

    def drop_before(self, moment_ms: int) -> None:
        """Drop the generations of which every image was uploaded before this."""
        for number in [n for n in self._generations if (n + 1) * GENERATION_MS <= moment_ms]:
            del self._generations[number]

    def _code(self, code: str | None) -> int:
        """Return the number of a code.  There are few; of too many, all others are one."""
        if code not in self._codes and len(self._codes) <= 255:  # noqa: PLR2004 (a byte)
            self._codes.append(code)
        return self._codes.index(code) if code in self._codes else 1

    def _add(self, fields: _Fields) -> None:
        generation, bucket = fields[1] // GENERATION_MS, hash(fields[0]) % _BUCKETS
        buckets = self._generations.get(generation)
        if buckets is None:
            buckets = self._generations[generation] = {}
        rows = buckets.get(bucket)
        if rows is None:
            rows = buckets[bucket] = bytearray()
        rows += _ROW.pack(*fields)

    def _find(self, key: bytes) -> tuple[bytearray, int, _Row] | None:
        bucket = hash(key) % _BUCKETS
        for buckets in tuple(self._generations.values()):
            rows = buckets.get(bucket)
            if rows is None or (at := rows.find(key)) < 0:
                continue
            while at >= 0 and at % _ROW_BYTES:  # equal bytes across two rows
                at = rows.find(key, at + 1)
            if at >= 0:
                return rows, at, _Row(*_ROW.unpack_from(rows, at))
        return None


def _add_flags(rows: bytearray, at: int, row: _Row, flags: int) -> None:
    if flags & ~row.flags:
        _write(rows, at, row._replace(flags=row.flags | flags))


def _write(rows: bytearray, at: int, fields: _Fields) -> None:
    rows[at : at + _ROW_BYTES] = _ROW.pack(*fields)
