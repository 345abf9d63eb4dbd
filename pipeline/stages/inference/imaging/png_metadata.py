"""What a PNG says beside its pixels, within bounds: its profile, its text, what is transparent.

Pillow refuses a whole picture for a profile or a text that unpacks to more than 1 MiB, as
programs write them.  Here the profile has the bound of every profile, and text is left out but
for what may say which way is up, if it is short.  Nothing is unpacked further than its bound.
Pure; what is not a PNG, or damaged, is Pillow's to refuse.

Source: PNG specification, third edition, sections 5.3, 11.3.1.1 and 11.3.3.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12
"""Length, kind and checksum of a chunk."""
_DEPTH_AT = 24
"""The first chunk is the header: signature, frame, width and height come before."""

_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_TURNS = frozenset({b"Raw profile type exif", b"XML:com.adobe.xmp"})
"""Keywords of text that tells an orientation."""
MAX_TEXT_BYTES = 1 << 20
"""What Pillow takes."""


class Beside(NamedTuple):
    """A file that Pillow takes, and what was taken out of it."""

    data: bytes
    profile: bytes | None


def read(data: bytes, *, max_profile_bytes: int) -> Beside:
    """The file without its profile and without text that is not needed, or is too long.

    The profile is None if there is none, or if it is longer or can not be unpacked.
    """
    profile: bytes | None = None
    kept, begin = [], 0
    texts_left = len(_TURNS)
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
    return Beside(b"".join((*kept, data[begin:])) if begin else data, profile)


def depth(data: bytes) -> int:
    """Bits of each value, as the header says."""
    return data[_DEPTH_AT] if len(data) > _DEPTH_AT else 0


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each, as far as they are whole."""
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
    return _unpacked(rest[1:], max_bytes) if rest[:1] == b"\0" else None


def _is_needed(kind: bytes, content: bytes) -> bool:
    keyword, _, rest = content.partition(b"\0")
    if keyword not in _TURNS or len(rest) > MAX_TEXT_BYTES:
        return False
    match kind:
        case b"zTXt":
            return _unpacked(rest[1:], MAX_TEXT_BYTES) is not None
        case b"iTXt" if rest[:1] == b"\1":
            # Compression method, language and translated keyword come first.
            text = rest[2:].split(b"\0", 2)[-1]
            return _unpacked(text, MAX_TEXT_BYTES) is not None
        case _:
            return True


def _unpacked(packed: bytes, max_bytes: int) -> bytes | None:
    """None if it is longer, or not what it says."""
    unpacker = zlib.decompressobj()
    try:
        done = unpacker.decompress(packed, max(1, max_bytes))  # 0 would be no bound
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else done
