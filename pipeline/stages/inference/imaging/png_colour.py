"""Find out what a PNG's colours mean: from cICP, then iCCP, then sRGB, then gAMA and cHRM.

Rules, all of them:

* The first of these chunks that can be used decides, whatever the others contain.
* A chunk with a wrong length, an unknown code, a narrow range or an absurd value does not count.
* cHRM counts with gAMA only; one that describes no colours takes gAMA with it.
* A gAMA of 1/2.2, or within 5 % of it, with the primaries of sRGB (or none) means sRGB.

Pure.  Sources: PNG specification, third edition, sections 4.3 and 11.3.2; ITU-T H.273, tables 2 and
3.  The margin of 5 % is that of libpng and Chromium.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from erasestream.pipeline.stages.inference.imaging.colour_spaces import (
    BT709,
    BT2020,
    SRGB,
    ColourSpace,
    Curve,
    Primaries,
)
from erasestream.pipeline.stages.inference.imaging.png_metadata import unpack

_D65 = (0.3127, 0.3290)
_THEATRE = (0.314, 0.351)
_C = (0.310, 0.316)
_PRIMARIES: dict[int, Primaries] = {
    1: BT709,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: BT2020,
    10: (1 / 3, 1 / 3, 1, 0, 0, 1, 0, 0),
    11: (*_THEATRE, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_VIDEO = 2.4
_CURVES: dict[int, Curve | float] = {
    1: _VIDEO,
    4: 2.2,
    5: 2.8,
    6: _VIDEO,
    7: Curve.SMPTE_240M,
    8: 1.0,
    11: _VIDEO,
    13: Curve.SRGB,
    14: _VIDEO,
    15: _VIDEO,
    16: Curve.PQ,
    17: Curve.SMPTE_428,
    18: Curve.HLG,
}
_RGB_FULL_RANGE = b"\0\1"
"""Matrix coefficients and range, the only ones of a PNG."""
_CODES = 4
_INTENTS = 4
_LIGHT = struct.Struct(">I4x")
_DISPLAY = struct.Struct(">16xI4x")
_LIGHT_UNITS = 10_000
"""Of cLLI and mDCV, in each cd/m2."""
_MAX_PEAK = 10_000.0
"""Of PQ."""

_GAMMA_BYTES = 4
_CORNERS = struct.Struct(">8I")
_ONE = 100_000
"""gAMA and cHRM count in 1/100,000."""
_SRGB_GAMMA = 1 / 2.2
_MARGIN = 0.05
_GAMMAS = (0.1, 10.0)
"""Beyond them a picture would be black, or white: such a gAMA is a mistake of a program."""
_SAME = 0.002
"""Difference of chromaticities that stand for the same colour."""
_LEAST_AREA = 0.001
"""Of the triangle of all colours (sRGB: 0.11)."""
_MAX_NAME = 79


class Description(NamedTuple):
    """Meaning of the colours: by a profile if it can be used, else by a space."""

    profile: bytes | None
    space: ColourSpace


def describe(chunks: Mapping[bytes, bytes], *, max_profile_bytes: int) -> Description:
    """Interpret the contents of the chunks from before the pixels, by name."""
    coded = _from_codes(chunks)
    if coded is not None:
        return Description(None, coded)
    profile = _profile(chunks.get(b"iCCP", b""), max_profile_bytes)
    intent = chunks.get(b"sRGB", b"")
    if len(intent) == 1 and intent[0] < _INTENTS:
        return Description(profile, SRGB)
    return Description(profile, _from_gamma(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")))


def _from_codes(chunks: Mapping[bytes, bytes]) -> ColourSpace | None:
    content = chunks.get(b"cICP", b"")
    if len(content) != _CODES or content[2:] != _RGB_FULL_RANGE:
        return None
    primaries, curve = _PRIMARIES.get(content[0]), _CURVES.get(content[1])
    if primaries is None or curve is None:
        return None
    if curve in {Curve.PQ, Curve.HLG}:
        return ColourSpace(curve=curve, primaries=primaries, peak=_peak(chunks))
    return ColourSpace(curve=curve, primaries=primaries)


def _peak(chunks: Mapping[bytes, bytes]) -> float:
    """Return the brightest light of the picture, or else of the display on which it was made."""
    for kind, place in ((b"cLLI", _LIGHT), (b"mDCV", _DISPLAY)):
        content = chunks.get(kind, b"")
        value = int(place.unpack(content)[0]) if len(content) == place.size else 0
        if value:
            return min(value / _LIGHT_UNITS, _MAX_PEAK)
    return SRGB.peak


def _profile(content: bytes, max_bytes: int) -> bytes | None:
    """Return the unpacked profile; None if it is too long, or cut off, or has no name."""
    name, _, rest = content.partition(b"\0")
    if not 0 < len(name) <= _MAX_NAME or rest[:1] != b"\0":
        return None
    return unpack(rest[1:], max_bytes)


def _from_gamma(gamma: bytes, corners: bytes) -> ColourSpace:
    if len(gamma) != _GAMMA_BYTES:
        return SRGB
    value = int.from_bytes(gamma) / _ONE
    primaries = _chromaticities(corners) if len(corners) == _CORNERS.size else BT709
    if primaries is None or not _GAMMAS[0] <= value <= _GAMMAS[1]:
        return SRGB
    if primaries == BT709 and abs(value / _SRGB_GAMMA - 1) <= _MARGIN:
        return SRGB
    return ColourSpace(curve=1 / value, primaries=primaries)


def _chromaticities(content: bytes) -> Primaries | None:
    """Return the primaries; None if they span no colours, or white is none of these."""
    wx, wy, rx, ry, gx, gy, bx, by = (value / _ONE for value in _CORNERS.unpack(content))
    primaries = wx, wy, rx, ry, gx, gy, bx, by
    if max(primaries) > 1:
        return None
    if all(abs(mine - its) <= _SAME for mine, its in zip(primaries, BT709, strict=True)):
        return BT709
    whole = _area(rx, ry, gx, gy, bx, by)
    parts = (
        _area(wx, wy, gx, gy, bx, by),
        _area(rx, ry, wx, wy, bx, by),
        _area(rx, ry, gx, gy, wx, wy),
    )
    if abs(whole) < _LEAST_AREA or min(part / whole for part in parts) <= _LEAST_AREA or wy <= 0:
        return None
    return primaries


def _area(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> float:
    """Return the area of a triangle, negative if its corners are in clockwise order."""
    return ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
