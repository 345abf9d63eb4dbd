"""The records in the files of a broker, read without Kafka: whatever a file is called.

Source: https://kafka.apache.org/documentation/#recordbatch (version 2).  Topics with images are not
compressed; other batches are skipped.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_BATCH = struct.Struct(">qiibIhiqqqhii")
_CODEC, _CONTROL = 0x07, 0x20
_VERSION = 2
_LENGTH_FROM = 12
"""A batch's length counts from here."""


class StoredRecord(NamedTuple):
    """One record; `offset` is the one that its batch gives it."""

    offset: int
    headers: dict[str, str]
    value: bytes


def records_in(file: Path) -> Iterator[StoredRecord]:
    """Yield the records of a segment, up to the end or the first bytes that are no batch."""
    raw, at = file.read_bytes(), 0
    while at + _BATCH.size <= len(raw):
        base, length, _, version, _, attributes, *_, count = _BATCH.unpack_from(raw, at)
        end = at + _LENGTH_FROM + length
        if version != _VERSION or length <= 0 or end > len(raw):
            return
        if not attributes & (_CODEC | _CONTROL):
            with suppress(ValueError, IndexError):  # a forged batch, of which readers take nothing
                yield from list(_records(raw, at + _BATCH.size, base, count))
        at = end


def _records(raw: bytes, at: int, base: int, count: int) -> Iterator[StoredRecord]:
    for number in range(count):
        size, at = _varint(raw, at)
        end = at + size
        _, at = _varint(raw, at + 1)  # attributes, then the time since the batch's
        _, at = _varint(raw, at)
        _, at = _sized(raw, at)
        value, at = _sized(raw, at)
        fields, at = _varint(raw, at)
        headers = {}
        for _ in range(fields):
            name, at = _sized(raw, at)
            text, at = _sized(raw, at)
            headers[name.decode(errors="replace")] = text.decode(errors="replace")
        yield StoredRecord(base + number, headers, value)
        at = end


def _sized(raw: bytes, at: int) -> tuple[bytes, int]:
    size, at = _varint(raw, at)
    return (raw[at : at + size], at + size) if size >= 0 else (b"", at)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return a number in zigzag, and where the next field begins."""
    number = shift = 0
    while True:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
