"""Read the header of a WebP file before anything is decoded.

Pillow allocates two whole canvases as soon as it opens a WebP, so its size has to be known before
that.  Pillow reads the sizes of PNG and JPEG without allocating.  Pure.

Source: RFC 9649, sections 2.4 (RIFF), 2.7 (VP8X, ANMF), 3.4 (VP8L); RFC 6386, section 9.1 (VP8).
"""

from dataclasses import dataclass

_ANIMATION = 0x02
_KEY_FRAME = b"\x9d\x01\x2a"
_LOSSLESS = 0x2F
_FIRST_CHUNK = 12
_CHUNK_HEADER = 8
_SEVERAL = 2


@dataclass(frozen=True, kw_only=True)
class WebpHeader:
    """Canvas in pixels, whether it has several frames, and the length of the file by its header."""

    width: int
    height: int
    animated: bool
    file_bytes: int


def read_header(data: bytes) -> WebpHeader | None:
    """Parse the first 30 bytes, and count frames; return None if they are no header."""
    head = data[:30].ljust(30, b"\0")
    match head[12:16]:
        case b"VP8X":
            size = _number(head[24:27]) + 1, _number(head[27:30]) + 1
        case b"VP8L" if head[20] == _LOSSLESS:
            bits = _number(head[21:25])
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if head[23:26] == _KEY_FRAME:
            size = _number(head[26:28]) & 0x3FFF, _number(head[28:30]) & 0x3FFF
        case _:
            return None
    return WebpHeader(
        width=size[0],
        height=size[1],
        animated=head[12:16] == b"VP8X" and bool(head[20] & _ANIMATION) and _has_frames(data),
        file_bytes=_number(head[4:8]) + 8,
    )


def _has_frames(data: bytes) -> bool:
    """Return whether there is a second frame: an animation with one is a still."""
    frames, at = 0, _FIRST_CHUNK
    while frames < _SEVERAL and at + _CHUNK_HEADER <= len(data):
        frames += data[at : at + 4] == b"ANMF"
        length = _number(data[at + 4 : at + 8])
        at += _CHUNK_HEADER + length + length % 2
    return frames >= _SEVERAL


def _number(field: bytes) -> int:
    return int.from_bytes(field, "little")
