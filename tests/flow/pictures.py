"""Pictures for the tests of the whole flow: no two are equal, and noise can be searched for."""

import io
import itertools

import numpy as np
from PIL import Image

_numbers = itertools.count(1)


def photo(width: int = 48, height: int = 32) -> bytes:
    """A small JPEG: a bright product on a dark ground, another shade each time."""
    number = next(_numbers)
    picture = Image.new("RGB", (width, height), (number % 60, number // 60 % 60, 20))
    picture.paste((255 - number % 40, 250, 240), (width // 4, 2, width * 3 // 4, height - 2))
    return _saved(picture, "JPEG")


def noise(width: int = 64, height: int = 64) -> bytes:
    """A bright PNG that can not be compressed, so that its bytes are found wherever they lie."""
    random = np.random.default_rng(next(_numbers))
    pixels = random.integers(200, 256, (height, width, 3), np.uint8)
    return _saved(Image.fromarray(pixels), "PNG")


def loud_noise(width: int, height: int) -> bytes:
    """A JPEG of noise: its file is much smaller than the PNG of what it shows."""
    random = np.random.default_rng(next(_numbers))
    pixels = random.integers(90, 256, (height, width, 3), np.uint8)
    return _saved(Image.fromarray(pixels), "JPEG", quality=35)


def strip(width: int) -> bytes:
    """A picture that is wide and hardly anything else."""
    return _saved(Image.new("RGB", (width, 2), (250, 250, 250)), "PNG")


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
