"""Decide whether a picture's own alpha channel isolates a product already.

A model sees such a picture on a plain ground, and would remove parts of a product that resembles
it.  So its alpha is kept.  The decision uses alpha alone, and no colour.

An alpha channel isolates a product, except where one of these holds:

* Less than a hundredth of the picture is transparent.
* It frames a photo: what is opaque is a rectangle with sides that are straight to the pixel, after
  rows and columns that are empty are left out, it has few holes, and it takes a quarter of the
  picture.  Its corners may be rounded if it reaches all four borders of the picture.
* It fades a photo out: alpha falls gradually, in the same way on opposite sides.

So a disc is a product (a plate more often than a photo in a circle), and so is whatever is
translucent throughout.  A rectangular product that was cut out with a ruler looks like a photo in
a frame: `CutoutOptions.own_alpha` decides such cases.  Explained in `docs/own-alpha.md`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erasestream.schemas.options import OwnAlpha

TRANSPARENT_BELOW = 16
"""Alpha of 255.  Programs that cut out leave a haze of some levels."""
MIN_TRANSPARENT = 0.01
"""Share of a picture below which nothing is isolated."""
OPAQUE = 240
"""Median alpha of a photo in a frame; less is translucent."""
MIN_FILLED = 0.8
"""Share of a rectangle: watermarks leave more of it, and products like picture frames less."""
MIN_FILLED_DISC = 0.7
"""The same, of a disc, which fills a rectangle to 0.785."""
MIN_FRAMED = 0.25
"""Share of a picture that a photo in a frame takes; a smaller rectangle is a product."""
MAX_MARGIN = 0.01
"""Empty share of a side beside a photo that counts as reaching the border."""
MAX_RADIUS = 0.375
"""Of rounded corners, as a share of the shorter side: half would be a disc."""
MAX_DEVIATION_PX = 0.5
"""Mean distance of a photo's outline from a rectangle.  Whatever was cut out by hand, or by a
model, has sides that are less straight."""
MAX_ARC_DEVIATION_PX, MAX_ARC_DEVIATION = 0.25, 0.17
"""The same with rounded corners: at most so many pixels, plus this share of the distance from
square corners.  Arcs need a tenth of a pixel, superellipses most of the share."""
FADE_LEVELS = (0.25, 0.5, 0.75, 0.95)
MIN_FADE = 0.06
"""Share of a faded photo whose alpha is between two of these parts of its median: the shadow of
a product has only faint ones, and a sharp outline hardly any."""
MAX_ASYMMETRY = 0.02
"""Of a faded photo, as a share of its shorter side."""

_SHAPE_PIXELS = 4_000_000
"""A larger picture is reduced to this size to look at its shape."""
_AROUND_ARC = 1 - math.pi / 4
"""Area that a rounded corner of radius 1 takes from a rectangle."""

Counts = NDArray[np.intp]
Corners = tuple[tuple[float, float], ...]
"""Horizontal and vertical radius: top left, top right, bottom left, bottom right."""


def is_kept(image: Image.Image, option: OwnAlpha) -> bool:
    """Return whether a picture's own alpha channel is its cut-out, by the option."""
    match option:
        case OwnAlpha.AUTO:
            return isolates_product(image)
        case OwnAlpha.KEEP:
            return True
        case OwnAlpha.CUT:
            return False
        case _:
            assert_never(option)


def isolates_product(image: Image.Image) -> bool:
    """Return whether the alpha channel of a picture (RGB or RGBA) isolates a product."""
    if image.mode != "RGBA":
        return False
    alpha = image.getchannel("A")
    levels = _Levels.of(alpha)
    if levels.transparent < MIN_TRANSPARENT:
        return False
    if not levels.median:
        return True  # nothing is visible: nothing can be removed
    shape = _Shape.of(alpha, levels.median * 3 // 4)
    if shape is None:
        return True
    if levels.fade >= MIN_FADE and shape.is_symmetrical():
        return False
    return not (levels.median >= OPAQUE and shape.is_rectangle())


class _Levels(NamedTuple):
    """How much of a picture has which alpha."""

    transparent: float
    """Share of the picture."""
    median: int
    """Of all pixels that are not transparent; 0 if none is."""
    fade: float
    """How gradually alpha falls: `MIN_FADE`."""

    @classmethod
    def of(cls, alpha: Image.Image) -> "_Levels":
        counts = np.array(alpha.histogram())
        at_least = counts[::-1].cumsum()[::-1]
        total, visible = int(at_least[0]), int(at_least[TRANSPARENT_BELOW])
        transparent = 1 - visible / total
        if not visible:
            return cls(transparent, 0, 0.0)
        median = int(np.flatnonzero(at_least * 2 >= visible)[-1])
        bands = -np.diff(at_least[[round(median * part) for part in FADE_LEVELS]])
        return cls(transparent, median, float(bands.min()) / visible)


class _Shape(NamedTuple):
    """Outline of what is opaque, seen from four sides, without empty rows and columns.

    Each number is how many pixels are empty in one row or column before the first that is not.
    """

    left: Counts
    right: Counts
    top: Counts
    bottom: Counts
    filled: float
    """Share of its rectangle."""
    share: float
    """Share of the picture that its rectangle takes."""
    reaches_borders: bool
    """Whether it reaches all borders of the picture."""

    @classmethod
    def of(cls, alpha: Image.Image, level: int) -> "_Shape | None":
        """Return the shape; None where everything is thinner than a pixel of a reduced picture."""
        factor = math.ceil(math.sqrt(alpha.width * alpha.height / _SHAPE_PIXELS))
        levels = np.asarray(alpha.reduce(factor) if factor > 1 else alpha)
        solid: NDArray[np.bool_] = np.greater_equal(levels, level)
        rows, columns = (np.asarray(solid.any(axis=axis)) for axis in (1, 0))
        if not rows.any():
            return None
        solid = solid[rows][:, columns]
        return cls(
            left=solid.argmax(axis=1),
            right=solid[:, ::-1].argmax(axis=1),
            top=solid.argmax(axis=0),
            bottom=solid[::-1].argmax(axis=0),
            filled=float(solid.mean()),
            share=solid.size / levels.size,
            reaches_borders=all(
                line[: 1 + int(len(line) * MAX_MARGIN)].any()
                for line in (rows, rows[::-1], columns, columns[::-1])
            ),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return len(self.top), len(self.left)

    def is_symmetrical(self) -> bool:
        """Return whether it is its own mirror image in both directions, with few holes."""
        pairs = [(self.left, self.right), (self.top, self.bottom)]
        pairs += [(side, side[::-1]) for side in self[:4]]
        asymmetry = max(float(np.abs(one - other).mean()) for one, other in pairs)
        return self.filled >= MIN_FILLED_DISC and asymmetry <= MAX_ASYMMETRY * min(self.size)

    def is_rectangle(self) -> bool:
        """Return whether it is a rectangle, perhaps with rounded corners, with few holes."""
        if self.filled < MIN_FILLED or self.share < MIN_FRAMED:
            return False
        square = self._deviation(((0, 0),) * 4)
        if square <= MAX_DEVIATION_PX:
            return True
        allowed = MAX_ARC_DEVIATION_PX + MAX_ARC_DEVIATION * square
        return self.reaches_borders and any(
            self._deviation(corners) <= allowed for corners in self._rounded_corners()
        )

    def _rounded_corners(self) -> Iterator[Corners]:
        """Yield corners that take the same area from the rectangle, if none is too large.

        Circular ones, then elliptical ones of the rectangle's own proportions.
        """
        width, height = self.size
        half = height // 2
        areas = [
            side.sum()
            for side in (self.left[:half], self.right[:half], self.left[half:], self.right[half:])
        ]
        radii = [math.sqrt(area / _AROUND_ARC) for area in areas]
        for stretch in (1.0, math.sqrt(width / height)):
            corners = tuple((radius * stretch, radius / stretch) for radius in radii)
            if all(x <= MAX_RADIUS * width and y <= MAX_RADIUS * height for x, y in corners):
                yield corners

    def _deviation(self, corners: Corners) -> float:
        """Return the mean distance from a rectangle with these corners, in pixels."""
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
        sides = (
            (self.left, (ay, ax), (cy, cx)),
            (self.right, (by, bx), (dy, dx)),
            (self.top, (ax, ay), (bx, by)),
            (self.bottom, (cx, cy), (dx, dy)),
        )
        distance = sum(
            float(np.abs(side - _arc(len(side), *first) - _arc(len(side), *last)[::-1]).sum())
            for side, first, last in sides
        )
        return distance / sum(len(side) for side, _, _ in sides)


def _arc(count: int, along: float, across: float) -> NDArray[np.float64]:
    """Return how many pixels a rounded corner takes from each of `count` rows (or columns)."""
    from_end = np.maximum(along - 0.5 - np.arange(count), 0) / max(along, 1.0)
    taken: NDArray[np.float64] = across * (1 - np.sqrt(1 - np.minimum(from_end, 1) ** 2))
    return taken
