"""Read how many pixels a file declares, without decoding anything.

For the parent, which must not decode: it estimates by this how long an image may take.  A file
that declares less than it has gains nothing, because the decoders believe the same header.  Pure.

Source: PNG specification, third edition, 11.2.1; ITU-T T.81, B.2.2; `webp_header`.
"""

import re

from erasestream.pipeline.stages.inference.imaging import webp_header
from erasestream.schemas.image_formats import JPEG, PNG, WEBP, sniff_content_type

_WEBP_HEADER = 30
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_SEGMENTS = 1000
"""Before the frame.  Profiles and previews are the longest: 480 segments have 30 MB."""


def pixels(data: bytes) -> int:
    """Return the width times the height by the file's header, 0 if it has none."""
    match sniff_content_type(data):
        case format_ if format_ == PNG:
            return _number(data[16:20]) * _number(data[20:24])
        case format_ if format_ == WEBP:
            header = webp_header.read_header(data[:_WEBP_HEADER])
            return header.width * header.height if header else 0
        case format_ if format_ == JPEG:
            return _pixels_of_jpeg(data)
    return 0


def _pixels_of_jpeg(data: bytes) -> int:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            return 0
        marker, at = found[1][0], found.end()
        if marker in _FRAMES:
            return _number(data[at + 3 : at + 5]) * _number(data[at + 5 : at + 7])
        if marker not in _WITHOUT_LENGTH:
            at += _number(data[at : at + 2])
    return 0


def _number(field: bytes) -> int:
    return int.from_bytes(field)
