"""Walk through the chunks of a PNG, also past those whose length is wrong.

Rules, all of them:

* Only a wrong checksum makes a length doubtful, and never that of pixel data: what is wrong with
  them is wrong with the picture.  Their own checksum is not computed: there is one within.
* After a doubtful chunk the walk continues where its length points if a registered name is there,
  else at the next registered name.
* The walk ends with IEND, or with the file.

Pure.  Source: PNG specification, third edition, section 5.3, and its register of extensions.
"""

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

END = b"IEND"
_SIGNATURE_BYTES = 8
_HEAD_BYTES = 8
"""Length and kind of a chunk; its content and its checksum follow."""
_CHECKSUM_BYTES = 4
_NAMES = re.compile(
    b"IHDR|PLTE|IDAT|IEND|tRNS|cHRM|gAMA|iCCP|sBIT|sRGB|cICP|mDCV|cLLI|tEXt|zTXt|iTXt|bKGD|hIST"
    b"|pHYs|sPLT|eXIf|tIME|acTL|fcTL|fdAT|oFFs|pCAL|sCAL|gIFg|gIFx|sTER"
)
_MAX_SEARCHES = 16
"""A file with more wrong lengths is noise."""


class Chunk(NamedTuple):
    """Place of a chunk in its file."""

    kind: bytes
    begin: int
    end: int
    """Behind the checksum; behind the end of the file if it is cut off."""
    is_valid: bool
    """Whether the checksum is right; pixel data are believed."""

    @property
    def content(self) -> slice:
        """Place of the content."""
        return slice(self.begin + _HEAD_BYTES, self.end - _CHECKSUM_BYTES)


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a file that begins with the signature."""
    at, searches = _SIGNATURE_BYTES, 0
    while at + _HEAD_BYTES <= len(data):
        chunk = _chunk_at(data, at)
        yield chunk
        if chunk.kind == END:
            return
        at = chunk.end
        if chunk.is_valid or _NAMES.fullmatch(data, at + 4, at + 8) or at == len(data):
            continue
        searches += 1
        found = _NAMES.search(data, chunk.begin + _HEAD_BYTES + 4)
        if found is None or searches > _MAX_SEARCHES:
            return
        at = found.start() - 4


def _chunk_at(data: bytes, at: int) -> Chunk:
    kind = data[at + 4 : at + 8]
    end = at + _HEAD_BYTES + int.from_bytes(data[at : at + 4]) + _CHECKSUM_BYTES
    if kind == b"IDAT":
        return Chunk(kind, at, end, is_valid=True)
    checksum = zlib.crc32(memoryview(data)[at + 4 : end - _CHECKSUM_BYTES])
    is_valid = end <= len(data) and checksum == int.from_bytes(data[end - 4 : end])
    return Chunk(kind, at, end, is_valid)
