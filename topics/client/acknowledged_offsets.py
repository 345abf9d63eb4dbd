"""Offsets that are acknowledged beyond the committed one, as the metadata of the commit.  Pure.

    1:<committed offset>:<base64 of varints>

The varints (LEB128) come in pairs: how many offsets to pass, and how many acknowledged ones follow;
the first pair begins at the committed offset.

Rules:

* The text has at most `max_bytes`; the highest offsets are left out first, and are redelivered.
* Metadata in another form, or for another committed offset (a tool moved the group, say), means
  that nothing is acknowledged: it is redelivered.  Anyone with the right to commit for the group
  can write it, and only the group reads it.
"""

import base64
from collections.abc import Iterable, Iterator

MAX_BYTES = 4096
"""Default of the brokers' `offset.metadata.max.bytes`."""
MAX_OFFSET = 2**63 - 1

_VERSION = "1"


def to_metadata(committed: int, acknowledged: Iterable[range], max_bytes: int = MAX_BYTES) -> str:
    """Return the metadata for these ranges, ascending, apart and not below the committed offset.

    Empty if there are none, or if none fits.
    """
    header = _header(committed)
    room = (max_bytes - len(header)) // 4 * 3
    packed, position = bytearray(), committed
    for each in acknowledged:
        pair = _varint(each.start - position) + _varint(len(each))
        if len(packed) + len(pair) > room:
            break
        packed += pair
        position = each.stop
    return header + base64.b64encode(packed).decode() if packed else ""


def from_metadata(committed: int, metadata: str) -> list[range]:
    """Return the acknowledged ranges in the metadata; none if `to_metadata` did not write it."""
    header = _header(committed)
    if not metadata.startswith(header):
        return []
    try:
        numbers = list(_numbers(base64.b64decode(metadata.removeprefix(header), validate=True)))
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    except ValueError:
        return []
    found: list[range] = []
    position = committed
    for gap, length in pairs:
        first = position + gap
        position = first + length
        if length == 0 or position > MAX_OFFSET or (found and gap == 0):
            return []
        found.append(range(first, position))
    return found


def _header(committed: int) -> str:
    return f"{_VERSION}:{committed}:"


def _varint(number: int) -> bytes:
    packed = bytearray()
    while number >= 0x80:  # noqa: PLR2004 (seven bits a byte)
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _numbers(packed: bytes) -> Iterator[int]:
    """Yield the varints.  Raises `ValueError` if the last one does not end."""
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004
            yield number
            number = shift = 0
    if shift:
        raise ValueError("a varint does not end")
