"""Read width and height from the header of an image, without decoding anything.  Pure.

The header of an upload may say anything; the decoders believe the same.

Source: PNG specification, third edition, 11.2.1; ITU-T T.81, B.2.2; RFC 9649, sections 2.7 and
3.4; RFC 6386, section 9.1; APPNOTE.TXT of PKWARE, section 4.3.7.
"""

from typing import NamedTuple

from erasestream.schemas.image_formats import JPEG, PNG, WEBP, sniff_content_type

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL = 0xFF
_WITHOUT_LENGTH = frozenset({0x00, 0x01, _FILL, *range(0xD0, 0xD9)})
_MAX_SEGMENTS = 1000
"""Before the frame of a JPEG.  Profiles and previews are the longest: 480 segments have 30 MB."""
_WEBP_HEADER = 30
_ZIP_START, _ZIP_HEADER = b"PK\x03\x04", 30


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


NO_SIZE = ImageSize(0, 0)


def size_of(data: bytes) -> ImageSize:
    """Return the size that a PNG, JPEG or WebP declares; 0 x 0 if it declares none.

    That of a zip is the size of its first file.
    """
    if data.startswith(_ZIP_START):
        return _of_zip(data)
    match sniff_content_type(data):
        case found if found == PNG:
            return ImageSize(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
        case found if found == JPEG:
            return _of_jpeg(data)
        case found if found == WEBP:
            return _of_webp(data[:_WEBP_HEADER].ljust(_WEBP_HEADER, b"\0"))
    return NO_SIZE


def _of_jpeg(data: bytes) -> ImageSize:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        at = data.find(b"\xff", at)
        if at < 0:
            return NO_SIZE
        marker = int.from_bytes(data[at + 1 : at + 2])
        if marker in _FRAMES:
            width, height = data[at + 7 : at + 9], data[at + 5 : at + 7]
            return ImageSize(int.from_bytes(width), int.from_bytes(height))
        at += 1 if marker == _FILL else 2  # a fill byte, or a marker
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2])
    return NO_SIZE


def _of_zip(data: bytes) -> ImageSize:
    lengths = (int.from_bytes(data[at : at + 2], "little") for at in (26, 28))
    first = data[_ZIP_HEADER + sum(lengths) :]
    return NO_SIZE if first.startswith(_ZIP_START) else size_of(first)


def _of_webp(head: bytes) -> ImageSize:
    def number(begin: int, end: int) -> int:
        return int.from_bytes(head[begin:end], "little")

    match head[12:16]:
        case b"VP8X":
            return ImageSize(number(24, 27) + 1, number(27, 30) + 1)
        case b"VP8L":
            bits = number(21, 25)
            return ImageSize((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8 ":
            return ImageSize(number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF)
    return NO_SIZE
