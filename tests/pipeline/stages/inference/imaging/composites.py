"""Composites with ground truth: the product's own colours, its alpha and the background.

Generated from seeded noise, so that the true colour of every edge pixel is known.  Nothing in
them is flat: products and backgrounds have texture, shade and several colours.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 900, 600
_SUPERSAMPLED = 4


class Composite(NamedTuple):
    """A scene: colours are rows x columns x 3, 0..255; alpha 0..1."""

    name: str
    foreground: Floats
    alpha: Floats
    background: Floats

    @property
    def photo(self) -> Image.Image:
        """Picture that a camera would take."""
        alpha = self.alpha[..., None]
        seen = alpha * self.foreground + (1 - alpha) * self.background
        return Image.fromarray(seen.round().astype(np.uint8))

    @property
    def edge(self) -> NDArray[np.bool_]:
        """Pixels in which product and background mix, in eight bits."""
        levels = np.rint(self.alpha * 255)
        return (levels > 0) & (levels < 255)

    def error(self, colours: NDArray[np.uint8]) -> float:
        """Return the mean distance to the product's own colour at the edge, in levels of 255."""
        differences = np.abs(colours[self.edge][:, :3] - self.foreground[self.edge])
        return float(differences.mean())


def _textured(seed: int, *colours: tuple[int, int, int], grain: float = 6) -> Floats:
    """Return large patches of the colours, with shade and grain."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, len(colours), (5, 8)).astype(np.uint8))
    index = np.asarray(patches.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))
    smooth = Image.fromarray(np.asarray(colours, np.uint8)[index]).filter(
        ImageFilter.GaussianBlur(40)
    )
    shade = np.linspace(0.8, 1.1, WIDTH)[None, :, None]
    noise = random.normal(0, grain, (HEIGHT, WIDTH, 1))
    return np.clip(np.asarray(smooth) * shade + noise, 0, 255)


def _drawn(draw: Callable[[ImageDraw.ImageDraw, float], None], *, blur: float) -> Floats:
    """Draw an alpha channel, supersampled and then blurred."""
    scale = _SUPERSAMPLED
    image = Image.new("L", (WIDTH * scale, HEIGHT * scale))
    draw(ImageDraw.Draw(image), scale)
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return np.asarray(small.filter(ImageFilter.GaussianBlur(blur)), np.float64) / 255


def _bottle(draw: ImageDraw.ImageDraw, scale: float) -> None:
    def box(*sides: float) -> tuple[float, ...]:
        return tuple(side * scale for side in sides)

    draw.rounded_rectangle(box(310, 200, 590, 580), radius=60 * scale, fill=255)
    draw.rectangle(box(410, 60, 490, 230), fill=255)
    draw.ellipse(box(385, 30, 515, 90), fill=255)


def _fur(draw: ImageDraw.ImageDraw, scale: float) -> None:
    random = np.random.default_rng(7)
    draw.ellipse(tuple(side * scale for side in (300, 170, 600, 470)), fill=255)
    for angle in random.uniform(0, 2 * np.pi, 700):
        inner, outer, bend = 120, random.uniform(160, 230), random.normal(0, 0.08)
        points = [
            (
                scale * (450 + radius * np.cos(angle + bend * step)),
                scale * (320 + radius * np.sin(angle + bend * step)),
            )
            for step, radius in enumerate(np.linspace(inner, outer, 6))
        ]
        draw.line(points, fill=255, width=round(scale * random.uniform(0.8, 2.2)))


def composites(seed: int = 0) -> Iterator[Composite]:
    """Yield a sharp edge, a soft one, one out of focus, and fur, each on two backgrounds."""
    bottles, fur = partial(_drawn, _bottle), partial(_drawn, _fur)
    wool = _textured(seed + 4, (90, 60, 40), (150, 105, 70))
    products = {
        "sharp": (bottles(blur=0.8), _textured(seed + 1, (200, 40, 40), (150, 30, 60))),
        "soft": (bottles(blur=3), _textured(seed + 2, (30, 70, 160), (60, 120, 190))),
        "out of focus": (bottles(blur=8), _textured(seed + 3, (235, 225, 205), (200, 180, 150))),
        "fur": (fur(blur=0.7), wool),
    }
    room = ((240, 235, 225), (90, 110, 140), (30, 30, 35), (210, 160, 60))
    backgrounds = {
        "green": _textured(seed + 11, (40, 190, 60), (80, 220, 90), (20, 150, 40)),
        "room": _textured(seed + 12, *room),
    }
    for product, (alpha, foreground) in products.items():
        for ground, background in backgrounds.items():
            yield Composite(f"{product}, {ground}", foreground, alpha, background)
