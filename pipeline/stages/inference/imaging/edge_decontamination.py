"""Remove the old background's colour from soft edges: no halo.

A soft edge shows I = alpha F + (1 - alpha) B.  A cut-out that keeps I keeps B in it.  F is
estimated by blur fusion, twice: M. Forte, "Approximate Fast Foreground Colour Estimation",
ICIP 2021.  With smooth estimates F' and B' of the colours of both layers,

    F = F' + alpha (I - alpha F' - (1 - alpha) B')

first with a wide blur, which reaches across any edge, then with a narrow one on that result.

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
_FULL = np.float32(255)


class LayerColours(NamedTuple):
    """Smooth colours of both layers: rows x columns x RGBA, 0..255.

    Four numbers for three colours, because gathering powers of two is twice as fast.
    """

    foreground: Floats
    background: Floats


def estimate_layers(colours: Bytes, premultiplied: Bytes) -> LayerColours:
    """Estimate F' and B' on the grid.

    `colours`: the mean colour of each cell, `premultiplied`: the means of alpha times colour,
    and of alpha (rows x columns x 4).  For a photo with an alpha channel of its own, both are
    multiplied by that too: a cell weighs as much as is visible of it.
    """
    seen = np.full(premultiplied.shape, _FULL)
    seen[..., : colours.shape[2]] = colours
    product = premultiplied.astype(np.float32)
    rest = np.maximum(seen - product, np.float32(0))
    own, weight, rest_weight = (each[..., 3:] / _FULL for each in (seen, product, rest))
    foreground, background = _mean(product, WIDE), _mean(rest, WIDE)
    own = np.maximum(own, _LITTLE)
    fused = np.clip(_fuse(seen / own, weight / own, foreground, background), 0, _FULL)
    # The fourth number becomes the weight of a colour by the multiplication below.
    fused[..., 3] = background[..., 3] = _FULL
    return LayerColours(
        foreground=_mean(fused * weight, NARROW),
        background=_mean(background * rest_weight, NARROW),
    )


def clean(strip: Bytes, layers: LayerColours, *, top: int, height: int) -> None:
    """Replace the colour of soft pixels by the product's own, in a strip of a picture.

    `strip`: rows x width x RGBA, contiguous, the rows from `top` on of a picture that has
    `height`.  Fastest with some 100,000 pixels, whose intermediate results fit into the cache.
    """
    pixels = strip.reshape(-1, 4)
    # 1..254 become 0..253: one comparison instead of two.
    at = np.flatnonzero((pixels[:, 3] - np.uint8(1)) < np.uint8(254))
    if not at.size:
        return
    cells = _cells(strip.shape, layers, top, height).take(at)
    soft = pixels.view(np.uint32)[:, 0].take(at).view(np.uint8).reshape(-1, 4)
    done = _fuse(
        soft.astype(np.float32),
        soft[:, 3:].astype(np.float32) / _FULL,
        layers.foreground.reshape(-1, 4).take(cells, axis=0),
        layers.background.reshape(-1, 4).take(cells, axis=0),
    )
    done += np.float32(0.5)
    soft[:, :3] = np.clip(done, 0, _FULL, out=done)[:, :3]
    pixels.view(np.uint32)[at, 0] = soft.view(np.uint32)[:, 0]


def _cells(shape: tuple[int, ...], layers: LayerColours, top: int, height: int) -> NDArray[np.intp]:
    """Return the cell of the grid for each pixel of the strip."""
    rows, columns = layers.foreground.shape[:2]
    row = (top + np.arange(shape[0])) * rows // height
    column = np.arange(shape[1]) * columns // shape[1]
    cells: NDArray[np.intp] = (row[:, None] * columns + column).reshape(-1)
    return cells


def _fuse(seen: Floats, alpha: Floats, foreground: Floats, background: Floats) -> Floats:
    """Apply the formula in fewer passes: alpha F' + (1 - alpha) B' is B' + alpha (F' - B')."""
    fused = foreground - background
    fused *= alpha
    fused += background
    np.subtract(seen, fused, out=fused)
    fused *= alpha
    fused += foreground
    return fused


def _mean(weighted: Floats, radius: int) -> Floats:
    """Average colours that are weighted, with their weights (rows x columns x 4, 0..255)."""
    sums = _blur(weighted, radius)
    mean: Floats = sums / (sums[..., 3:] / _FULL + _LITTLE)
    return mean


def _blur(values: Floats, radius: int) -> Floats:
    """Sum over a square box, cut off at the borders (a division makes it a mean)."""
    turned = _box_sum(_box_sum(values, radius).swapaxes(0, 1), radius)
    # In row order again: otherwise every strip would copy the whole grid to index it.
    return np.ascontiguousarray(turned.swapaxes(0, 1))


def _box_sum(values: Floats, radius: int) -> Floats:
    """Sum along the first axis: a row enters the sum, and the one behind the box leaves it."""
    count = len(values)
    sums = np.empty(values.shape, np.float32)
    # In double precision: adding and subtracting again would otherwise leave a remainder.
    box = values[:radius].sum(axis=0, dtype=np.float64)
    for middle in range(count):
        if middle + radius < count:
            box += values[middle + radius]
        if middle > radius:
            box -= values[middle - radius - 1]
        sums[middle] = box
    return sums
