"""Parse record batches for aiokafka, including header names that are not UTF-8.

Kafka stores any bytes as the name of a header.  aiokafka decodes names strictly, and fails the
whole fetch at one that is not UTF-8, at every retry: one such upload would block its partition
forever.  Here such a name becomes one that no event has, as in Java's client, and the upload
is judged by its other headers.

Values are copied once, out of the fetched bytes.

Source of the format: https://kafka.apache.org/documentation/#recordbatch
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import decode_varint

from erasestream.schemas.errors import InvariantBroken

_LENGTH = struct.Struct(">i")
_LENGTH_OFFSET = 8
_BYTES_BEFORE_LENGTH = 12
_HEADER_BYTES = 61
_LOG_APPEND_TIME = 1

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
    checksum: None = None


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
        if self._batch.compression_type:
            # Brokers store none in our topics (topics/catalog/catalog.py): 25 MB may become 25 GB.
            raise CorruptRecordException("a compressed batch")
        cursor = _Cursor(data, _HEADER_BYTES)
        while cursor.position < len(data):
            yield self._record(cursor)

    def _record(self, cursor: "_Cursor") -> Record:
        length = cursor.number()
        end = cursor.position + length
        cursor.skip(1)  # attributes: unused
        since_first, offset_delta = cursor.number(), cursor.number()
        record = Record(
            offset=self._batch.base_offset + offset_delta,
            timestamp=self._batch.max_timestamp
            if self._batch.timestamp_type == _LOG_APPEND_TIME
            else self._batch.first_timestamp + since_first,
            timestamp_type=self._batch.timestamp_type,
            key=cursor.bytes_or_none(),
            value=cursor.bytes_or_none(),
            headers=tuple(cursor.header() for _ in range(cursor.number())),
        )
        if cursor.position != end:
            raise CorruptRecordException("a record whose length field is wrong")
        return record


class _Cursor:
    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self.position = position

    def skip(self, count: int) -> None:
        self.position += count

    def number(self) -> int:
        value: int
        value, self.position = decode_varint(self._data, self.position)
        return value

    def bytes_or_none(self) -> bytes | None:
        length = self.number()
        if length < 0:
            return None
        begin = self.position
        self.position += length
        return bytes(self._data[begin : self.position])

    def header(self) -> tuple[str, bytes | None]:
        name = self.bytes_or_none() or b""
        return name.decode(errors="replace"), self.bytes_or_none()
