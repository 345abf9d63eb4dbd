"""The product's own colour where it mixes with the old background: no halo.

A soft edge shows I = alpha F + (1 - alpha) B.  A cut-out that keeps I keeps B in it.  F is
estimated by blur fusion, twice: M. Forte, "Approximate Fast Foreground Colour Estimation",
ICIP 2021.  With smooth estimates F' and B' of the colours on both sides,

    F = F' + alpha (I - alpha F' - (1 - alpha) B')

first with a wide blur, which reaches over any edge, then with a narrow one over that result.

F' and B' are smooth by construction, so they are computed on a grid of about 60,000 cells, from
the exact means of alpha I and (1 - alpha) I in each; the formula itself is applied to every
pixel of full size with 0 < alpha < 1, and to no other.  Pure: arrays in, arrays changed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

WIDE, NARROW = 24, 2
"""Radius in cells, of which a picture is about 300 by 200: 144 and 12 pixels of one of two
megapixels.  Forte's 90 and 6 leave more of the old background in fur (`docs/edges.md`)."""

_LITTLE = np.float32(1e-4)
_ONE = np.float32(1)


class Sides(NamedTuple):
    """The smooth colours of both sides of the edge: rows x columns x 3, 0..255."""

    foreground: Floats
    background: Floats


def sides(colours: Bytes, premultiplied: Bytes) -> Sides:
    """F' and B' on the grid.

    `colours`: the mean colour of each cell, `premultiplied`: the means of alpha times colour,
    and of alpha (rows x columns x 4).
    """
    seen = colours.astype(np.float32)
    product = premultiplied[..., :3].astype(np.float32)
    alpha = premultiplied[..., 3:].astype(np.float32) / np.float32(255)
    rest = np.maximum(seen - product, np.float32(0))
    foreground = _mean(product, alpha, WIDE)
    background = _mean(rest, _ONE - alpha, WIDE)
    fused = np.clip(_fused(seen, alpha, foreground, background), 0, 255)
    return Sides(
        foreground=_mean(fused * alpha, alpha, NARROW),
        background=_mean(background * (_ONE - alpha), _ONE - alpha, NARROW),
    )


def clean(strip: Bytes, sides: Sides, *, top: int, height: int) -> None:
    """Put the product's colour into the soft pixels of a part of a picture.

    `strip`: rows x width x RGBA, the rows from `top` on of a picture that has `height`.
    """
    alpha = strip[..., 3]
    # 1..254 become 0..253: one comparison instead of two.
    y, x = np.nonzero((alpha - np.uint8(1)) < np.uint8(254))
    if not y.size:
        return
    rows, columns = sides.foreground.shape[:2]
    cells = ((top + y) * rows // height) * columns + x * columns // strip.shape[1]
    soft = strip[y, x]
    done = _fused(
        soft[:, :3].astype(np.float32),
        soft[:, 3:].astype(np.float32) / np.float32(255),
        sides.foreground.reshape(-1, 3)[cells],
        sides.background.reshape(-1, 3)[cells],
    )
    soft[:, :3] = np.clip(done + np.float32(0.5), 0, 255).astype(np.uint8)
    strip[y, x] = soft


def _fused(seen: Floats, alpha: Floats, foreground: Floats, background: Floats) -> Floats:
    mixed: Floats = alpha * foreground + (_ONE - alpha) * background
    fused: Floats = foreground + alpha * (seen - mixed)
    return fused


def _mean(weighted: Floats, weight: Floats, radius: int) -> Floats:
    return _blurred(weighted, radius) / (_blurred(weight, radius) + _LITTLE)


def _blurred(values: Floats, radius: int) -> Floats:
    """The sum over a square box, cut off at the borders (the division makes it a mean)."""
    return _summed(_summed(values, radius, 0), radius, 1)


def _summed(values: Floats, radius: int, axis: int) -> Floats:
    count = values.shape[axis]
    sums = np.cumsum(values, axis=axis, dtype=np.float64)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis=axis)
    ends = np.minimum(np.arange(count) + radius + 1, count)
    begins = np.maximum(np.arange(count) - radius, 0)
    summed: Floats = (sums.take(ends, axis) - sums.take(begins, axis)).astype(np.float32)
    return summed
