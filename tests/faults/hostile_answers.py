"""Decide whether an answer to a hostile file is allowed.  Pure."""

import io

import numpy as np
from PIL import Image

from erasestream.schemas.errors import FAILURE_CODES
from tests.faults.hostile_images import Case

CODES = frozenset(map(str, FAILURE_CODES))
MAX_PIXELS = 50_000_000


def complaint_about_refusal(case: Case, code: str) -> str | None:
    """Return what is wrong with refusing this case with this code, or None."""
    if code not in CODES:
        return f"{case.name}: {code} is not a published code"
    if case.size:
        return f"{case.name}: a good picture was refused: {code}"
    if case.codes and code not in case.codes:
        return f"{case.name}: {code} instead of {', '.join(sorted(case.codes))}"
    return None


def complaint_about_cutout(case: Case, data: bytes) -> str | None:
    """Return what is wrong with this cut-out of this case, or None."""
    if case.codes:
        return f"{case.name}: a cut-out instead of {', '.join(sorted(case.codes))}"
    picture = Image.open(io.BytesIO(data), formats=("PNG",))
    if picture.width * picture.height > MAX_PIXELS:
        return f"{case.name}: a cut-out of {picture.size}"
    if case.size and picture.size != case.size:
        return f"{case.name}: {picture.size} instead of {case.size}"
    pixels = np.asarray(picture)
    if picture.mode != "RGBA" or pixels[pixels[..., 3] == 0].any():
        return f"{case.name}: colour under the transparent, or mode {picture.mode}"
    return None
