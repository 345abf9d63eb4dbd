"""Parse record batches for aiokafka, and number records by what the broker vouches for.

A client can say anything in a record.  The broker (4.4, measured) checks the structure of an
uncompressed batch, and that it has as many records as its offsets say; it does not check that a
record claims its own offset.  aiokafka believes the claim, and fails the whole fetch at what it
does not understand, at every retry: one such upload would block its partition forever.  So here:

* The k-th record of a batch has the k-th offset of the batch, whatever the record claims.
* Every offset of a batch has a record, so that results are dense.
* If any record claims another offset than its own, all records of the batch are refused
  (`malformed_batch`): librdkafka, which believes the claim, would deliver one of them under the
  offset of another when the router reads the original again.
* So are all records of a batch that cannot be parsed, or that only the broker can: it ignores the
  excess bits of a number and takes any negative length for null, and librdkafka delivers nothing.
* A header name that is not UTF-8 becomes one that no event has, as in Java's client, and the
  upload is judged by its other headers.
* What a batch can cost is bounded (`MAX_RECORDS`, `MAX_HEADERS_BYTES`).

Values are copied once, out of the fetched bytes.  Keys are not: uploads have none, and what a
client writes there is held without being counted.

Source of the format: https://kafka.apache.org/documentation/#recordbatch
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch

from erasestream.schemas.codec.cloudevents import MAX_HEADER_BYTES
from erasestream.schemas.errors import Code, InvariantBroken

_LENGTH = struct.Struct(">i")
_LENGTH_OFFSET = 8
_BYTES_BEFORE_LENGTH = 12
_HEADER_BYTES = 61
_LOG_APPEND_TIME = 1
_INT32_BYTES, _INT64_BYTES = 5, 10
"""Most bytes of an encoded number."""

MAX_RECORDS = 20_000
"""All records of a batch of more are refused unread.  30 MB of uploads of 1 KB are as many.  A
batch can have millions of empty ones, and reading them would take so long that the worker loses
its membership in the group."""
MAX_HEADERS_BYTES = 2 * MAX_HEADER_BYTES
"""Headers after so many bytes, as encoded, are not read one by one: a record can have millions."""

_Headers = tuple[tuple[str, bytes | None], ...]


def install() -> None:
    """Make aiokafka's consumers in this process use this parser.

    Raises `InvariantBroken` if this version of aiokafka parses its records in another way.
    """
    if not hasattr(fetcher, "MemoryRecords"):
        raise InvariantBroken("this version of aiokafka parses records in another way")
    fetcher.MemoryRecords = Records


class Record(NamedTuple):
    """Record, with the field names that aiokafka's consumer expects."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: _Headers
    checksum: Code | None = None
    """The code with which the upload is refused; in this format there is no checksum here."""


class Records:
    """Batches of one fetch response, of which the last may be cut off."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._next = 0

    def size_in_bytes(self) -> int:
        """Return the size of the whole response."""
        return len(self._data)

    def has_next(self) -> bool:
        """Return whether there is another whole batch."""
        return self._end() is not None

    def next_batch(self) -> "Batch | None":
        """Return the next whole batch, None if there is none."""
        begin, end = self._next, self._end()
        if end is None:
            return None
        self._next = end
        return Batch(self._data[begin:end])

    def _end(self) -> int | None:
        if len(self._data) - self._next < _HEADER_BYTES:
            return None
        (length,) = _LENGTH.unpack_from(self._data, self._next + _LENGTH_OFFSET)
        end: int = self._next + _BYTES_BEFORE_LENGTH + length
        return end if end <= len(self._data) else None


class Batch:
    """Batch of aiokafka, with our records."""

    def __init__(self, data: memoryview) -> None:
        self._batch = DefaultRecordBatch(data)
        self._records = self._parse(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def __next__(self) -> Record:
        return next(self._records)

    def _parse(self, data: memoryview) -> Iterator[Record]:
        batch = self._batch
        first, count = batch.base_offset, batch.next_offset - batch.base_offset
        kind, time_ms = batch.timestamp_type, batch.max_timestamp
        # Brokers store no compressed batch in our topics (topics/catalog/catalog.py): 30 MB may
        # become 30 GB.
        is_readable = not batch.compression_type and count <= MAX_RECORDS
        parsed = _parsed(data, count) if is_readable else None
        is_numbered = parsed is not None and all(
            fields.offset_delta == index for index, fields in enumerate(parsed)
        )
        for index in range(count):
            offset, fields = first + index, parsed[index] if parsed else _NO_FIELDS
            if kind != _LOG_APPEND_TIME:
                time_ms = batch.first_timestamp + fields.since_first
            if not is_numbered:
                code = Code.MALFORMED_BATCH
                yield Record(offset, time_ms, kind, None, None, fields.headers, code)
                continue
            value = None if fields.value is None else bytes(fields.value)
            yield Record(offset, time_ms, kind, None, value, fields.headers)


class _Fields(NamedTuple):
    """Contents of a record.  The value is a view of the batch."""

    since_first: int
    offset_delta: int
    value: memoryview | None
    headers: _Headers


_NO_FIELDS = _Fields(0, 0, None, ())


def _parsed(data: memoryview, count: int) -> list[_Fields] | None:
    """Return the contents of the records of a batch; None unless it consists of `count` records."""
    cursor = _Cursor(data, _HEADER_BYTES)
    try:
        found = [_fields(cursor) for _ in range(count)]
    except (ValueError, IndexError):
        return None
    return found if cursor.position == len(data) else None


def _fields(cursor: "_Cursor") -> _Fields:
    """Parse a record.  Raises `ValueError`, `IndexError` unless it has exactly its length."""
    length = cursor.number()
    end = cursor.position + length
    cursor.position += 1  # attributes: unused
    since_first, offset_delta = cursor.number(max_bytes=_INT64_BYTES), cursor.number()
    cursor.view()  # the key
    fields = _Fields(since_first, offset_delta, cursor.view(), cursor.headers(end))
    if cursor.position != end:
        raise ValueError("a record with a wrong length")
    return fields


class _Cursor:
    """Reads the fields of records.  Raises `ValueError`, `IndexError` for what is none."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self.position = position

    def number(self, *, max_bytes: int = _INT32_BYTES) -> int:
        """Return a number in zigzag, of 32 or of 64 bits."""
        rest = shift = 0
        for at in range(self.position, self.position + max_bytes):
            byte = self._data[at]
            rest |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
            shift += 7
        else:
            raise ValueError("a number is too long")
        if max_bytes == _INT32_BYTES and rest >> 32:
            raise ValueError("a number has excess bits")
        self.position = at + 1
        return (rest >> 1) ^ -(rest & 1)

    def view(self) -> memoryview | None:
        """Return the bytes of a field; None if the field is null."""
        length = self.number()
        if length < 0:
            if length < -1:
                raise ValueError("a negative length")
            return None
        begin = self.position
        self.position += length
        if self.position > len(self._data):
            raise ValueError("a field is longer than its batch")
        return self._data[begin : self.position]

    def headers(self, end: int) -> _Headers:
        """Return the headers of a record that ends there; of very many, the rest as one.

        Its name is empty, which no event has; its size counts.
        """
        count, limit = self.number(), self.position + MAX_HEADERS_BYTES
        found = list[tuple[str, bytes | None]]()
        while len(found) < count and self.position < limit:
            name, value = self.view(), self.view()
            found.append((_text(name), None if value is None else bytes(value)))
        if len(found) < count:
            rest = self._data[self.position : min(end, limit + MAX_HEADERS_BYTES)]
            found.append(("", bytes(rest)))
            self.position = max(end, self.position)
        return tuple(found)


def _text(name: memoryview | None) -> str:
    return bytes(name or b"").decode(errors="replace")
