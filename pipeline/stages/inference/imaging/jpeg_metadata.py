"""Take a JPEG apart: its pixels, and the notes about them.

Pillow refuses a whole photo if a note is shorter than its kind requires, which programs do write.
It is given tables, frame and scans, and two notes without which colours would change: JFIF and
Adobe's, if they are whole.

Rules, all of them:

* A note that is damaged does not count; of EXIF the first does.
* A profile counts if it has all of its parts, each once.
* JPEGs of other kinds (12 or 16 bits, JPEG-LS, hierarchical, lines counted at the end) are no
  damaged JPEGs.

Pure.  Source: ITU-T T.81, annex B; ITU-T T.871 (JFIF), section 10; ITU-T T.872, section 6.5.3
(Adobe); ICC.1, annex B.4 (parts of a profile); ITU-T T.87, annex C (JPEG-LS).
"""

from typing import NamedTuple

from erasestream.pipeline.stages.inference.imaging.jpeg_segments import (
    NOTES,
    START,
    Segment,
    segments,
)
from erasestream.schemas.errors import Code, InvalidImage

_JFIF_BYTES, _ADOBE_BYTES = 14, 12
_NO_PREVIEW = b"\0\0"
_ICC_HEAD_BYTES = 14
"""Name, number of the part from 1, number of parts."""

_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})
"""Baseline, extended, progressive, lossless; with arithmetic coding."""
_FOREIGN = frozenset({0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE, 0xF7})
"""Hierarchical frames, lossless ones with arithmetic coding, JPEG-LS."""
_FRAME_BYTES = 6
_BITS = 8
_FOREIGN_BITS = range(2, 17)
_CHANNELS = frozenset({1, 3, 4})
_LINES = b"\xff\xdc\0\4"
"""The segment with the number of lines, behind the first scan."""


class Jpeg(NamedTuple):
    """A file of pixels, and the notes about them."""

    data: bytes
    exif: bytes | None
    profile: bytes | None


def read(data: bytes) -> Jpeg:
    """Take a file apart.

    Raises `InvalidImage`: unsupported_format (a kind of JPEG that is not decoded).
    """
    view = memoryview(data)
    pixels = bytearray(START)
    exif: bytes | None = None
    parts: list[bytes] = []
    for segment in segments(data):
        if segment.marker not in NOTES:
            _refuse_foreign(segment, data)
            pixels += view[segment.begin : segment.end]
            continue
        content = data[segment.content]
        match segment.marker:
            case 0xE0 if content.startswith(b"JFIF\0") and len(content) >= _JFIF_BYTES:
                pixels += _note(segment.marker, content[: _JFIF_BYTES - 2] + _NO_PREVIEW)
            case 0xE1 if content.startswith(b"Exif\0\0") and exif is None:
                exif = content
            case 0xE2 if content.startswith(b"ICC_PROFILE\0") and len(content) >= _ICC_HEAD_BYTES:
                parts.append(content)
            case 0xEE if content.startswith(b"Adobe") and len(content) >= _ADOBE_BYTES:
                pixels += _note(segment.marker, content[:_ADOBE_BYTES])
    return Jpeg(bytes(pixels), exif, _joined(parts))


def _note(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (2 + len(content)).to_bytes(2) + content


def _refuse_foreign(segment: Segment, data: bytes) -> None:
    """Refuse a frame that would be decoded by another program, were it sent as another format."""
    if segment.marker in _FOREIGN:
        raise InvalidImage(code=Code.UNSUPPORTED_FORMAT)
    frame = data[segment.content]
    if segment.marker not in _FRAMES or len(frame) < _FRAME_BYTES:
        return
    bits, lines, channels = frame[0], int.from_bytes(frame[1:3]), frame[5]
    has_foreign_bits = bits != _BITS and bits in _FOREIGN_BITS
    has_foreign_channels = channels not in _CHANNELS and len(frame) == _FRAME_BYTES + 3 * channels
    has_late_lines = lines == 0 and _LINES in data
    if has_foreign_bits or has_foreign_channels or has_late_lines:
        raise InvalidImage(code=Code.UNSUPPORTED_FORMAT)


def _joined(parts: list[bytes]) -> bytes | None:
    """Return the profile, None if a part is missing or there twice."""
    ordered = sorted(parts, key=lambda part: part[12])
    for number, part in enumerate(ordered, 1):
        if (part[12], part[13]) != (number, len(parts)):
            return None
    return b"".join(part[_ICC_HEAD_BYTES:] for part in ordered) or None
