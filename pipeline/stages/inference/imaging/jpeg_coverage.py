"""Prove that the data of a JPEG cover its whole picture.

libjpeg fills what is missing with grey, and only warns; Pillow drops its warnings.  So the data are
decoded once more by simplejpeg, which is libjpeg-turbo as well and reports the first warning: in
grey and at an eighth of the size, since only the entropy coding matters.

* Only what describes the pixels is decoded: tables, frame, scans.  Warnings about anything else
  would come first and hide those about pixels.
* Missing data are `truncated`, unless no more than the end of the last units is missing.
* An invalid code, or a restart marker out of order, is `corrupt`.
* Bytes between a scan and the next marker are harmless if they are few, as webcams write, or
  padding, as in motion JPEG.  Others are data of the picture that its damaged middle pushed behind
  its end: `corrupt`.
* A component without any scan, or too few restart markers, is `truncated`.
* What simplejpeg cannot read (4:1:0, lossless) is left to Pillow.  Not found either: damage that
  leaves as many units as there were, and the end of arithmetic-coded data, which may be omitted.

Source: ITU-T T.81, annexes B and F; jerror.h and jdhuff.c of libjpeg-turbo 3.1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import simplejpeg

from erasestream.schemas.errors import Code

_TABLES = frozenset({0xDB, 0xC4, 0xCC, 0xDD})
"""DQT, DHT, DAC, DRI."""
_DRI, _SOS, _EOI = 0xDD, 0xDA, 0xD9
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
_FRAMES = _SEQUENTIAL | {0xC2, 0xCA}
"""Without lossless ones: simplejpeg 1.9 writes beyond its buffer where it is to shrink one."""
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_START, _END = b"\xff\xd8", b"\xff\xd9"

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_SCAN_END = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")

_LENGTH_BYTES = 2
_BLOCK = 8
"""Pixels on the side of a block."""
_LOST = bytes(24)
"""The most that may be missing, as libjpeg replaces it: the end of the last units."""
_FEW_BYTES = 32
"""Webcams write up to 29 bytes behind their data (public reports of libjpeg's warning)."""

_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_PREMATURE = "premature end of data segment"
_CODES = {
    _PREMATURE: Code.TRUNCATED,
    "bad Huffman code": Code.CORRUPT,
    "bad arithmetic code": Code.CORRUPT,
    "instead of RST": Code.CORRUPT,
}


@dataclass(kw_only=True)
class _Picture:
    """Tables, frame and scans of a file."""

    pieces: list[bytes] = field(default_factory=lambda: [_START])
    frame: bytes = b""
    frame_marker: int = 0
    restart_interval: int = 0
    unseen: set[int] = field(default_factory=set)
    """Components of which there is no scan yet."""
    lacks_restarts: bool = False
    scans: list[tuple[bytes, int]] = field(default_factory=list)
    """The entropy-coded data of each scan, and the marker behind them."""


def missing(data: bytes) -> Code | None:
    """Return truncated or corrupt if pixels are missing or damaged, None otherwise.

    `data`: a JPEG whose size has been checked.  Takes the memory of its decoder, and that of
    another copy of the file.
    """
    picture = _parse(data)
    if not picture.scans:
        return None
    if picture.unseen or picture.lacks_restarts:
        return Code.TRUNCATED
    warning = _first_warning(*picture.pieces, _END)
    if found := _EXTRANEOUS.search(warning):
        is_harmless = _is_harmless(picture, int(found[1]), int(found[2], 16))
        return None if is_harmless else Code.CORRUPT
    code = next((code for text, code in _CODES.items() if text in warning), None)
    if code is Code.TRUNCATED and _PREMATURE not in _first_warning(*picture.pieces, _LOST, _END):
        return None
    return code


def is_proven(data: bytes) -> bool:
    """Return whether the data cover the picture, down to the last bit; False if in doubt."""
    picture = _parse(data)
    if picture.frame_marker not in _HUFFMAN or not picture.scans or picture.unseen:
        return False
    return not picture.lacks_restarts and not _first_warning(*picture.pieces, _END)


def _first_warning(*pieces: bytes) -> str:
    """Return the first warning, or the error; empty if there is none."""
    try:
        simplejpeg.decode_jpeg(
            b"".join(pieces), "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1
        )
    except ValueError as error:
        return str(error)
    return ""


def _is_harmless(picture: _Picture, count: int, marker: int) -> bool:
    """Return whether the bytes that libjpeg skipped before this marker are nothing's data."""
    return count <= _FEW_BYTES or any(
        marker == behind and _is_padding(interval[-count:])
        for interval, behind in _intervals(picture)
    )


def _is_padding(tail: bytes) -> bool:
    """Return whether one byte is repeated, but for the first, which may end the data."""
    values = set(tail[1:])
    return len(values) == 1 or values == {0xFF, 0}


def _intervals(picture: _Picture) -> Iterator[tuple[bytes, int]]:
    """Yield the data between restarts, and the marker behind them."""
    for entropy, marker in picture.scans:
        begin = 0
        for restart in _RESTART.finditer(entropy):
            yield entropy[begin : restart.start()], restart[1][0]
            begin = restart.end()
        yield entropy[begin:], marker


def _parse(data: bytes) -> _Picture:
    """Read the first picture of a file, as far as its structure is valid."""
    picture, at = _Picture(), len(_START)
    while (found := _MARKER.search(data, at)) and found[1][0] != _EOI:
        marker, at = found[1][0], found.end()
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2])
        end = at + length
        if length < _LENGTH_BYTES:
            break  # what follows would be read in another way here than by libjpeg
        try:
            _add_segment(picture, marker, data[at:end])
            at = _add_scan(picture, data[at:end], data, end) if marker == _SOS else end
        except (LookupError, ValueError, ArithmeticError):
            break  # Pillow refuses it
    return picture


def _add_segment(picture: _Picture, marker: int, segment: bytes) -> None:
    if marker in _FRAMES:
        picture.frame, picture.frame_marker = segment, marker
        picture.unseen = {segment[8 + 3 * number] for number in range(segment[7])}
    elif marker == _DRI:
        picture.restart_interval = int.from_bytes(segment[2:4])
    elif marker == _SOS and picture.frame_marker in _SEQUENTIAL:
        # Some encoders write values here that mean nothing, and cause a warning.
        segment = segment[:-3] + b"\0\x3f\0"
    if marker in _FRAMES | _TABLES | {_SOS}:
        picture.pieces += (b"\xff", bytes([marker]), segment)


def _add_scan(picture: _Picture, header: bytes, data: bytes, begin: int) -> int:
    """Add the data behind the header of a scan; return where they end."""
    found = _SCAN_END.search(data, begin)
    end = found.start() if found else len(data)
    components = [header[3 + 2 * number] for number in range(header[2])]
    first_coefficient = header[3 + 2 * len(components)]
    if first_coefficient == 0:
        picture.unseen -= set(components)
    wanted = 0
    if picture.restart_interval:
        wanted = (_units(picture, components) - 1) // picture.restart_interval
    restarts = (each.start() for each in _RESTART.finditer(data, begin, end))
    picture.lacks_restarts |= sum(1 for _ in islice(restarts, wanted)) < wanted
    # Scanners write more restarts and data behind their picture.
    entropy = data[begin : next(restarts, end)]
    picture.pieces.append(entropy)
    picture.scans.append((entropy, found[1][0] if found else _EOI))
    return end


def _units(picture: _Picture, components: list[int]) -> int:
    """Return the number of MCUs in a scan of these components (ITU-T T.81, A.2)."""
    frame = picture.frame
    height, width = int.from_bytes(frame[3:5]), int.from_bytes(frame[5:7])
    factors = {
        frame[at]: (frame[at + 1] >> 4, frame[at + 1] & 15) for at in range(8, 8 + 3 * frame[7], 3)
    }
    widest = max(across for across, _ in factors.values())
    highest = max(down for _, down in factors.values())
    if len(components) == 1:  # not interleaved: a unit is one block of this component
        across, down = factors[components[0]]
        width, height = -(-width * across // widest), -(-height * down // highest)
        widest = highest = 1
    return -(-width // (_BLOCK * widest)) * -(-height // (_BLOCK * highest))
