"""Encode PNG in a fifth of the time of Pillow's quickest setting, with 4 % more bytes.

* Every row uses the Paeth filter, which comparing all five filters chooses for nearly every row
  of a photo.  It is computed for a whole strip at once, in bytes.
* Deflate is ISA-L's, with a window of 512 bytes: photos repeat nothing but runs, and matches at
  greater distances take more bits than they save (5 % of the file).

W3C, Portable Network Graphics (Third Edition), sections 5, 9.4 and 11.2; RFC 1950 for the window.
"""

import struct
from collections.abc import Iterable, Iterator

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_LENGTH = _CHECKSUM = struct.Struct(">I")
_BITS = 8
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""Grey, RGB and RGBA, by the number of bytes of a pixel."""
_PAETH = 4
_QUICKEST = 1
_WINDOW_BITS = 9


def encode_png(width: int, height: int, strips: Iterable[Bytes]) -> Iterator[bytes]:
    """Yield the file of a picture in pieces.

    `strips`: its rows from top to bottom (rows x width x 1, 3 or 4), `height` in total; no strip
    has more rows than the first.
    """
    deflate = isal_zlib.compressobj(_QUICKEST, wbits=_WINDOW_BITS)
    paeth = None
    for strip in strips:
        if paeth is None:
            colours = _COLOUR_TYPES[strip.shape[2]]
            yield _SIGNATURE
            yield _chunk(b"IHDR", _HEADER.pack(width, height, _BITS, colours, 0, 0, 0))
            paeth = _Paeth(*strip.shape)
        if packed := deflate.compress(paeth.apply(strip)):
            yield _chunk(b"IDAT", packed)
    yield _chunk(b"IDAT", deflate.flush())
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = isal_zlib.crc32(content, isal_zlib.crc32(kind))
    return b"".join((_LENGTH.pack(len(content)), kind, content, _CHECKSUM.pack(checksum)))


class _Paeth:
    """The Paeth filter, for one strip after another.

    All strips use the same memory: where the allocator returns freed memory to the kernel,
    faulting it in again for every strip takes twice as long as the filter and the compression.
    """

    def __init__(self, rows: int, width: int, bands: int) -> None:
        self._bands = bands
        # A zero pixel before each row, and the row above: every neighbour is at a fixed distance.
        self._padded = np.zeros((rows + 1, width + 1, bands), np.uint8)
        self._scratch = np.zeros((7, rows * (width + 1) * bands), np.uint8)
        self._done = np.empty((rows, width * bands + 1), np.uint8)

    def apply(self, strip: Bytes) -> Bytes:
        """Return the rows to compress: the filter's number, then the differences."""
        rows, bands = len(strip), self._bands
        padded = self._padded[: rows + 1]
        padded[1:, 1:] = strip
        flat, stride = padded.reshape(-1), padded[0].size
        corner, *scratch = self._scratch[:, : rows * stride]
        corner[bands:] = flat[: -stride - bands]
        predicted = _predict(flat[stride - bands : -bands], flat[:-stride], corner, scratch)
        np.subtract(flat[stride:], predicted, out=predicted)
        done = self._done[:rows]
        done[:, 0] = _PAETH
        done[:, 1:] = predicted.reshape(rows, stride)[:, bands:]
        padded[0, 1:] = strip[-1]
        return done


def _predict(left: Bytes, up: Bytes, corner: Bytes, scratch: list[Bytes]) -> Bytes:
    """Compute Paeth's predictor in 8 bits, without branches.

    It is the one of the three that is nearest to left + up - corner.  With `low` and `high` for
    the smaller and the larger of left and up, that is `low` where the corner is at least twice as
    far from it as from `high`, `high` where it is the other way round, otherwise the corner.  For
    a corner outside of `low` and `high`, the distance to the nearer one counts as zero.
    """
    low, high, from_low, from_high, farther, spare = scratch
    np.minimum(left, up, out=low)
    np.maximum(left, up, out=high)
    np.maximum(corner, low, out=from_low)
    from_low -= low
    np.minimum(corner, high, out=from_high)
    np.subtract(high, from_high, out=from_high)
    np.maximum(from_low, from_high, out=farther)
    # farther - x >= x only where x is the nearer one, at most half as far.  Masks are 0 or 255.
    for x in (from_low, from_high):
        np.subtract(farther, x, out=spare)
        np.less_equal(x, spare, out=x.view(np.bool_))
    np.negative(from_low, out=from_low)
    high &= from_low
    from_high -= 1
    low |= from_high
    np.maximum(corner, high, out=high)
    return np.minimum(high, low, out=high)
