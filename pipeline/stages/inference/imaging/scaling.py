"""Scale pictures down to a number of pixels."""

import math

from PIL import Image

Size = tuple[int, int]


def size_within(size: Size, most: int) -> Size:
    """Return the largest size of the same shape with at most this many pixels."""
    width, height = size
    if width * height <= most:
        return size
    factor = math.sqrt(most / (width * height))
    smaller = max(1, int(width * factor)), max(1, int(height * factor))
    # One pixel high, say: the other side alone decides.
    return min(smaller[0], most), min(smaller[1], most)


def scaled_to(image: Image.Image, most: int) -> Image.Image:
    """Return the picture with at most this many pixels; colours are weighted by their alpha."""
    size = size_within(image.size, most)
    if size == image.size:
        return image
    smaller = image.resize(size, Image.Resampling.LANCZOS)
    smaller.info = image.info.copy()  # a profile, say
    return smaller
