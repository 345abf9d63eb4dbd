"""Read width and height from the header of a cut-out, which our own encoders wrote.  Pure.

Source: PNG specification, third edition, 11.2.1; ITU-T T.81, B.2.2; RFC 9649, sections 2.7 and
3.4; RFC 6386, section 9.1.
"""

from typing import NamedTuple

from erasestream.schemas.image_formats import JPEG, PNG, sniff_content_type

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


def size_of(data: bytes) -> ImageSize:
    """Return the size of a PNG, JPEG or WebP."""
    match sniff_content_type(data):
        case found if found == PNG:
            return ImageSize(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
        case found if found == JPEG:
            return _of_jpeg(data)
    return _of_webp(data[:30])


def _of_jpeg(data: bytes) -> ImageSize:
    at = 2
    while data[at + 1] not in _FRAMES:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return ImageSize(
        width=int.from_bytes(data[at + 7 : at + 9]), height=int.from_bytes(data[at + 5 : at + 7])
    )


def _of_webp(head: bytes) -> ImageSize:
    def number(begin: int, end: int) -> int:
        return int.from_bytes(head[begin:end], "little")

    match head[12:16]:
        case b"VP8X":
            return ImageSize(number(24, 27) + 1, number(27, 30) + 1)
        case b"VP8L":
            bits = number(21, 25)
            return ImageSize((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    return ImageSize(number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF)
