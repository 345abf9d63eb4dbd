"""Take a PNG apart: its pixels, and the notes about them.

Pillow refuses a whole picture if a note beside it is damaged or long, which programs do write.
It is given the chunks that make pixels only: header, palette, transparent colour and data.

Rules, all of them:

* A note with a wrong checksum does not count; of two of a kind the first counts, and only in a
  place that is allowed.
* A damaged header, a missing or damaged palette are damage of the picture.
* Nothing is unpacked beyond a limit.

Pure.  Source: PNG specification, third edition, sections 5.6, 11.2, 11.3 and 12.4 (order).
"""

import struct
import zlib
from typing import NamedTuple

from erasestream.pipeline.stages.inference.imaging.png_chunks import Chunk, chunks
from erasestream.schemas.errors import Code, InvalidImage

_HEADER = slice(8, 33)
"""The first chunk, with its frame."""
_DEPTH_OFFSET, _COLOUR_OFFSET = 24, 25
_GREY, _COLOUR, _PALETTE = 0, 2, 3
_COLOURS = 256
_FRAMES_BYTES = 8

_BEFORE_DATA = frozenset(
    {b"cICP", b"mDCV", b"cLLI", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"tRNS", b"acTL"}
)
_ANYWHERE = frozenset({b"eXIf", b"fcTL"})
_NOTES = _BEFORE_DATA | _ANYWHERE
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_EXIF_KEYWORD = b"Raw profile type exif"
"""Of the text in which programs wrote EXIF before PNG had a chunk for it."""
_EXIF_HEAD_LINES = 3
MAX_TEXT_BYTES = 1 << 20


class Png(NamedTuple):
    """A file of pixels only, and the notes about them."""

    data: bytes
    bit_depth: int
    animated: bool
    exif: bytes | None
    notes: dict[bytes, bytes]
    """Content of the first valid chunk of each kind."""


def read(data: bytes) -> Png:
    """Take a file apart.

    Raises `InvalidImage`: unsupported_format (of Apple's variant), truncated or corrupt.
    """
    parts = _Parts(data)
    for chunk in chunks(data):
        parts.add(chunk)
    return Png(
        data=b"".join((data[: _HEADER.stop], parts.palette(), parts.transparency(), parts.pixels)),
        bit_depth=data[_DEPTH_OFFSET],
        animated=parts.is_animated(),
        exif=parts.notes.get(b"eXIf") or parts.exif_of_text,
        notes=parts.notes,
    )


class _Parts:
    """The chunks of one file, sorted as they come."""

    def __init__(self, data: bytes) -> None:
        self._check_header(data)
        self._is_whole = False
        self.pixels = bytearray()
        """Whole chunks of pixels, and the end."""
        self.notes: dict[bytes, bytes] = {}
        self.exif_of_text: bytes | None = None
        """Of the first text that should contain it; a text that does not counts as empty."""
        self._data = data
        self._view = memoryview(data)
        self._palette: bytes | None = None
        self._has_first_frame = False

    @staticmethod
    def _check_header(data: bytes) -> None:
        first = next(chunks(data), None)
        if first is not None and first.kind == b"CgBI":
            raise InvalidImage(code=Code.UNSUPPORTED_FORMAT)
        if len(data) < _HEADER.stop:
            raise InvalidImage(code=Code.TRUNCATED)
        if first is None or first[:3] != (b"IHDR", _HEADER.start, _HEADER.stop):
            raise InvalidImage(code=Code.CORRUPT)
        if not first.is_valid:
            raise InvalidImage(code=Code.CORRUPT)

    def add(self, chunk: Chunk) -> None:
        """Sort one chunk in."""
        match chunk.kind:
            case b"IDAT":
                self.pixels += self._view[chunk.begin : chunk.end]
            case b"IEND":
                self._is_whole = True
                self.pixels += self._view[chunk.begin : chunk.end]
            case b"PLTE" if self._is_indexed and self._palette is None:
                if not chunk.is_valid:
                    raise InvalidImage(code=Code.CORRUPT)
                self._palette = self._data[chunk.content]
            case kind if chunk.is_valid and kind in _NOTES and self._is_allowed_here(kind):
                if kind == b"fcTL" and not self.pixels:
                    self._has_first_frame = True
                self.notes.setdefault(kind, self._data[chunk.content])
            case kind if chunk.is_valid and kind in _TEXTS and self.exif_of_text is None:
                self.exif_of_text = _exif_of_text(kind, self._data[chunk.content])

    def _is_allowed_here(self, kind: bytes) -> bool:
        if self.pixels:
            return kind in _ANYWHERE
        if self._palette is None:
            return kind != b"tRNS" or not self._is_indexed
        return kind != b"cICP"

    @property
    def _is_indexed(self) -> bool:
        return self._data[_COLOUR_OFFSET] == _PALETTE

    def palette(self) -> bytes:
        """Return the palette's chunk, nothing unless it is needed.

        An index beyond its end has its last colour, as in browsers.
        """
        if not self._is_indexed:
            return b""
        colours = len(self._palette or b"") // 3
        if not self._palette or not colours:
            raise InvalidImage(code=Code.CORRUPT if self._is_whole else Code.TRUNCATED)
        last = self._palette[3 * colours - 3 : 3 * colours]
        whole = self._palette[: 3 * colours] + last * max(0, _COLOURS - colours)
        return _chunk(b"PLTE", whole[: 3 * _COLOURS])

    def transparency(self) -> bytes:
        """Return the chunk with what is transparent, within the range of the values."""
        content = self.notes.get(b"tRNS", b"")
        colour, depth = self._data[_COLOUR_OFFSET], self._data[_DEPTH_OFFSET]
        if colour == _PALETTE and content:
            return _chunk(b"tRNS", content[:_COLOURS])
        channels = {_GREY: 1, _COLOUR: 3}.get(colour, 0)
        if not channels or len(content) < 2 * channels:
            return b""
        values = struct.unpack_from(f">{channels}H", content)
        masked = (value & (1 << depth) - 1 for value in values)
        return _chunk(b"tRNS", struct.pack(f">{channels}H", *masked))

    def is_animated(self) -> bool:
        """Return whether there are several pictures: frames, and one that is none of them."""
        count = self.notes.get(b"acTL", b"")
        if len(count) != _FRAMES_BYTES or b"fcTL" not in self.notes:
            return False
        return int.from_bytes(count[:4]) + (not self._has_first_frame) > 1


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _exif_of_text(kind: bytes, content: bytes) -> bytes | None:
    """Return the EXIF that is written in hexadecimal digits below a name and a length.

    None for another text; nothing if it is too long or invalid.
    """
    keyword, _, text = content.partition(b"\0")
    if keyword != _EXIF_KEYWORD:
        return None
    match kind:
        case b"zTXt":
            text = unpack(text[1:], MAX_TEXT_BYTES) or b""
        case b"iTXt":  # whether it is packed, how, a language and a translated keyword come first
            is_packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
            text = (unpack(text, MAX_TEXT_BYTES) or b"") if is_packed else text
    try:
        lines = text[:MAX_TEXT_BYTES].decode("ascii").split("\n")
        return bytes.fromhex("".join(lines[_EXIF_HEAD_LINES:]))
    except ValueError:
        return b""


def unpack(packed: bytes, max_bytes: int) -> bytes | None:
    """Return the unpacked bytes; None if they are more than that, invalid or cut off."""
    unpacker = zlib.decompressobj()
    try:
        done = unpacker.decompress(packed, max(1, max_bytes))  # 0 would mean no limit
    except zlib.error:
        return None
    return done if unpacker.eof else None
