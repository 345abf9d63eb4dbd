"""Pictures for end-to-end tests: no two are equal, and noise can be found by its bytes."""

import io
import itertools

import numpy as np
from PIL import Image

_numbers = itertools.count(1)


def photo(width: int = 48, height: int = 32) -> bytes:
    """Return a small JPEG: a bright product on a dark ground, in another shade each time."""
    number = next(_numbers)
    picture = Image.new("RGB", (width, height), (number % 60, number // 60 % 60, 20))
    picture.paste((255 - number % 40, 250, 240), (width // 4, 2, width * 3 // 4, height - 2))
    return _encode(picture, "JPEG")


def noise(width: int = 64, height: int = 64) -> bytes:
    """Return a bright, incompressible PNG, so that its bytes are found wherever they are stored."""
    random = np.random.default_rng(next(_numbers))
    pixels = random.integers(200, 256, (height, width, 3), np.uint8)
    return _encode(Image.fromarray(pixels), "PNG")


def loud_noise(width: int, height: int) -> bytes:
    """Return a JPEG of noise: a file much smaller than the PNG of the same pixels."""
    random = np.random.default_rng(next(_numbers))
    pixels = random.integers(90, 256, (height, width, 3), np.uint8)
    return _encode(Image.fromarray(pixels), "JPEG", quality=35)


def strip(width: int) -> bytes:
    """Return a PNG that is two pixels high."""
    return _encode(Image.new("RGB", (width, 2), (250, 250, 250)), "PNG")


def _encode(picture: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
