"""Convert 8-bit pixels to sRGB from a colour space given by its curve and its primaries.

Rules, all of them:

* sRGB costs nothing: its pixels are returned as they are.
* Light outside of sRGB is clipped, channel by channel, as browsers do.
* PQ and HLG are mapped to the range of a common display, as Chromium does: the brighter the picture
  may be, the darker is reference white, down to half its light; from there a curve leads to white.
* Pixels are converted in strips, in place: one picture is in memory, not two.

Sources: ITU-T H.273 tables 2 and 3 (primaries, curves); ITU-R BT.1886 (video is shown with a gamma
of 2.4); BT.2100 (PQ, HLG); BT.2408 (reference white); ICC.1 annex E (Bradford); Skia,
src/codec/SkHdrAgtm.cpp (mapping to a display).  Compared with Chromium 156.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Light = NDArray[np.float32]
"""Linear light, 1 is white."""

Primaries = tuple[float, float, float, float, float, float, float, float]
"""Chromaticities x and y of white, red, green and blue."""

BT709: Primaries = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
BT2020: Primaries = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)


class Curve(Enum):
    """Curves that are no power."""

    SRGB = auto()
    SMPTE_240M = auto()
    SMPTE_428 = auto()
    PQ = auto()
    HLG = auto()


@dataclass(frozen=True, kw_only=True)
class ColourSpace:
    """Meaning of red, green and blue."""

    curve: Curve | float
    """From values to light; a number is the exponent of a power."""
    primaries: Primaries
    peak: float = 1000.0
    """Brightest light of PQ and HLG, in cd/m2."""


SRGB = ColourSpace(curve=Curve.SRGB, primaries=BT709)

_STRIP_PIXELS = 1 << 18
"""Pixels that are converted at once: some megabytes of memory."""
_STEPS = 1 << 16
"""Steps of light: in the dark, where sRGB is steepest, 20 of them are one level."""
_SRGB_KNEE = 0.0031308
_SMPTE_240M_KNEE = 0.0228
_HLG_KNEE = 0.5
_REFERENCE_WHITE = 203.0
"""Of BT.2408, in cd/m2: what is 1 in light of PQ and HLG."""
_COMMON_PEAK = 1000.0 / _REFERENCE_WHITE
"""Of displays for HLG; the mapping darkens no further for a brighter picture."""
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def to_srgb(image: Image.Image, space: ColourSpace) -> Image.Image:
    """Convert an L or RGB image; it may be changed and returned, or a new RGB image is."""
    if space == SRGB:
        return image
    if image.mode == "L":
        greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
        table = _convert(greys, space)[0]
        return Image.merge("RGB", [image.point(table[:, band].tolist()) for band in range(3)])
    rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        strip = np.asarray(image.crop(box))
        image.paste(Image.fromarray(_convert(strip, space)), box)
    return image


def _convert(values: NDArray[np.uint8], space: ColourSpace) -> NDArray[np.uint8]:
    """Convert an array of rows, columns and three channels."""
    light = np.take(_light_of_levels(space.curve), values)
    if space.curve in {Curve.PQ, Curve.HLG}:
        light = _mapped_to_display(light @ conversion(space.primaries, BT2020).T, space)
        light = light @ conversion(BT2020, BT709).T
    elif space.primaries != BT709:
        light = light @ conversion(space.primaries, BT709).T
    np.clip(light, 0, 1, out=light)
    light *= _STEPS - 1
    light += 0.5
    return np.take(_levels_of_light(), light.astype(np.uint16))


@cache
def _light_of_levels(curve: Curve | float) -> Light:
    return _linear(np.arange(256) / 255, curve).astype(np.float32)


def _linear(value: NDArray[np.float64], curve: Curve | float) -> NDArray[np.float64]:
    match curve:
        case Curve.SRGB:
            line, power = value / 12.92, ((value + 0.055) / 1.055) ** 2.4
            return np.where(value <= _SRGB_KNEE * 12.92, line, power)
        case Curve.SMPTE_240M:
            line, power = value / 4, np.maximum((value + 0.1115) / 1.1115, 0) ** (1 / 0.45)
            return np.where(value < _SMPTE_240M_KNEE * 4, line, power)
        case Curve.SMPTE_428:
            return 52.37 / 48 * value**2.6
        case Curve.PQ:
            root = value ** (32 / 2523)
            ratio = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
            return 10_000 / _REFERENCE_WHITE * ratio ** (16384 / 2610)
        case Curve.HLG:
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            return np.where(value <= _HLG_KNEE, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        case exponent:
            return value**exponent


@cache
def _levels_of_light() -> NDArray[np.uint8]:
    """Return the level of sRGB for each step of light."""
    light = np.arange(_STEPS) / (_STEPS - 1)
    value = np.where(light <= _SRGB_KNEE, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(value * 255), dtype=np.uint8)


def _mapped_to_display(light: Light, space: ColourSpace) -> Light:
    """Map light with BT.2020 primaries to a range that ends at 1."""
    if space.curve is Curve.HLG:  # the light of the scene becomes that of a display of 1,000 cd/m2
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
        light = light * (_COMMON_PEAK * np.maximum(luminance, 0)[..., None] ** np.float32(0.2))
    brightest = light.max(axis=-1, keepdims=True)
    bright, shown = _display_curve(max(1.0, space.peak / _REFERENCE_WHITE))
    gain = np.interp(brightest, bright, shown) / np.maximum(brightest, bright[1] / 1e6)
    return np.asarray(light * gain, dtype=np.float32)


@cache
def _display_curve(peak: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of the curve from light to light shown: a line, then a parabola."""
    along = np.linspace(0, 1, 64)
    dimmed = 1 - 0.5 * min(1.0, math.log(peak) / math.log(_COMMON_PEAK))
    knee, white = (1.0, dimmed), (peak, 1.0)
    middle = (0.35 + 0.65 / dimmed, 0.35 * dimmed + 0.65)
    bright, shown = (
        (1 - along) ** 2 * knee[axis] + 2 * along * (1 - along) * middle[axis]
        + along**2 * white[axis]
        for axis in range(2)
    )  # fmt: skip
    return np.concatenate([[0], bright]), np.concatenate([[0], shown])


@cache
def conversion(source: Primaries, target: Primaries) -> Light:
    """Return the matrix from light of one set of primaries to that of another.

    Raises `numpy.linalg.LinAlgError` if the source's primaries span no colours.
    """
    adapted = _adaptation(source[:2], target[:2]) @ _to_xyz(source)
    return (np.linalg.inv(_to_xyz(target)) @ adapted).astype(np.float32)


def _to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    x, y = np.array(primaries[2::2]), np.array(primaries[3::2])
    columns = np.stack([x, y, 1 - x - y])
    return columns * np.linalg.solve(columns, _xyz_of(*primaries[:2]))


def _xyz_of(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1, (1 - x - y) / y])


def _adaptation(source: tuple[float, ...], target: tuple[float, ...]) -> NDArray[np.float64]:
    cones = [_BRADFORD @ _xyz_of(*white) for white in (source, target)]
    scaled: NDArray[np.float64] = np.diag(cones[1] / cones[0]) @ _BRADFORD
    return np.linalg.inv(_BRADFORD) @ scaled
