"""A picture for which every build of a model must give the same mask.

It is computed, so that it is the same everywhere: a coloured ellipse on a light background, like a
product photo.  Masks are compared in 16 x 16 fields: a broken build, or other weights, differ
there by a third of the picture; another CPU or 8 bits by a hundredth.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erasestream.pipeline.stages.inference.models.manifest import GOLDEN_SIDE
from erasestream.pipeline.stages.inference.models.preprocessing import normalize

if TYPE_CHECKING:
    from erasestream.pipeline.stages.inference.models.manifest import Golden, Manifest


def picture(size: int) -> NDArray[np.uint8]:
    """Return the golden picture, `size` x `size` x 3, 8-bit sRGB."""
    down, right = np.mgrid[:size, :size].astype(np.float32) / size
    ground = np.stack([200 - 40 * down, 205 - 40 * down, 210 - 40 * down], axis=-1)
    thing = np.stack([150 - 90 * right, 60 + 40 * down, 40 + 30 * right], axis=-1)
    inside = ((right - 0.5) / 0.28) ** 2 + ((down - 0.52) / 0.34) ** 2 < 1
    chosen = np.where(inside[..., np.newaxis], thing, ground)
    return np.rint(chosen).astype(np.uint8)


def model_input(manifest: "Manifest") -> NDArray[np.float32]:
    """Return the golden picture as this model's input."""
    return normalize(picture(manifest.size), manifest)


def encode_mask(mask: NDArray[np.float32]) -> str:
    """Encode a mask as in `Golden.mask`."""
    levels = np.rint(np.clip(_fields(mask), 0, 1) * 255).astype(np.uint8)
    return levels.tobytes().hex()


def difference(mask: NDArray[np.float32], golden: "Golden") -> float:
    """Return the mean difference between a mask and the golden mask, 0..1."""
    wanted = np.frombuffer(bytes.fromhex(golden.mask), np.uint8).astype(np.float32) / 255
    return float(np.abs(_fields(mask).ravel() - wanted).mean())


def _fields(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 16 x 16 fields of a mask of any size."""
    rows, columns = (np.arange(GOLDEN_SIDE) * side // GOLDEN_SIDE for side in mask.shape)
    sums = np.add.reduceat(np.add.reduceat(mask, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(starts, side))
        for starts, side in zip((rows, columns), mask.shape, strict=True)
    )
    means: NDArray[np.float32] = sums / np.outer(heights, widths)
    return means
