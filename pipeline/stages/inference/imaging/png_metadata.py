"""Metadata of a PNG, with bounds: its profile, its text, its bit depth.

Pillow refuses a whole picture for a profile or a text that unpacks to more than 1 MiB, which
programs do write.  Here the profile has the limit of every profile, and text is dropped unless it
may contain the orientation and is short.  Nothing is unpacked beyond its limit.
Pure; files that are not PNG, or are damaged, are left to Pillow to refuse.

Source: PNG specification, third edition, sections 5.3, 11.3.1.1 and 11.3.3.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12
"""Length, kind and checksum of a chunk."""
_DEPTH_OFFSET = 24
"""In the first chunk, the header, after signature, frame, width and height."""

_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_ORIENTATION_KEYWORDS = frozenset({b"Raw profile type exif", b"XML:com.adobe.xmp"})
"""Keywords of text that contains an orientation."""
MAX_TEXT_BYTES = 1 << 20
"""Limit of Pillow."""


class StrippedPng(NamedTuple):
    """A file that Pillow accepts, and the profile that was taken out of it."""

    data: bytes
    profile: bytes | None


def strip(data: bytes, *, max_profile_bytes: int) -> StrippedPng:
    """Take the profile out of a file, and drop text that is not needed or too long.

    The profile is None if there is none, if it is too long, or if it cannot be unpacked.
    """
    profile: bytes | None = None
    kept, begin = [], 0
    texts_left = len(_ORIENTATION_KEYWORDS)
    for kind, at, end in _chunks(data):
        if kind == b"iCCP":
            profile = profile or _profile(data[_content(at, end)], max_profile_bytes)
        elif kind in _TEXT:
            if texts_left and _is_needed(kind, data[_content(at, end)]):
                texts_left -= 1
                continue
        else:
            continue
        kept.append(data[begin:at])
        begin = end
    return StrippedPng(b"".join((*kept, data[begin:])) if begin else data, profile)


def bit_depth(data: bytes) -> int:
    """Return the bits of each value, by the header."""
    return data[_DEPTH_OFFSET] if len(data) > _DEPTH_OFFSET else 0


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of each chunk, up to the first incomplete one."""
    at = _SIGNATURE_BYTES
    while at + _FRAME_BYTES <= len(data):
        end = at + _FRAME_BYTES + int.from_bytes(data[at : at + 4])
        if end > len(data):
            return
        yield data[at + 4 : at + 8], at, end
        at = end


def _content(at: int, end: int) -> slice:
    return slice(at + 8, end - 4)


def _profile(content: bytes, max_bytes: int) -> bytes | None:
    _, _, rest = content.partition(b"\0")
    return _unpack(rest[1:], max_bytes) if rest[:1] == b"\0" else None


def _is_needed(kind: bytes, content: bytes) -> bool:
    keyword, _, rest = content.partition(b"\0")
    if keyword not in _ORIENTATION_KEYWORDS or len(rest) > MAX_TEXT_BYTES:
        return False
    match kind:
        case b"zTXt":
            return _unpack(rest[1:], MAX_TEXT_BYTES) is not None
        case b"iTXt" if rest[:1] == b"\1":
            # Compression method, language and translated keyword come first.
            text = rest[2:].split(b"\0", 2)[-1]
            return _unpack(text, MAX_TEXT_BYTES) is not None
        case _:
            return True


def _unpack(packed: bytes, max_bytes: int) -> bytes | None:
    """Return the unpacked bytes, None if there are more or they are invalid."""
    unpacker = zlib.decompressobj()
    try:
        done = unpacker.decompress(packed, max(1, max_bytes))  # 0 would mean no limit
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else done
