"""From a cut-out to the bytes of its file, bounded while they are written.

`auto` steps down until it fits: WebP lossless, lossy, then half as many pixels again and again;
what was done is said.  Every other format fits or is refused: nobody gets less than asked for.
"""

import io
import math
from collections.abc import Iterator
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erasestream.pipeline.stages.inference.imaging import png_encoder
from erasestream.pipeline.stages.inference.imaging.compose import scaled, strips
from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import CutoutOptions, OutputFormat

JPG_QUALITY = 90
WEBP_QUALITY = 90
MAX_WEBP_SIDE = 16_383
"""RFC 9649, section 2.5: 14 bits."""


class Encoded(NamedTuple):
    """A file, and the size of the picture in it."""

    data: bytes
    content_type: str
    width: int
    height: int
    adjusted: Adjusted | None = None


def encode(cutout: Picture, options: CutoutOptions, *, limits: Limits = LIMITS) -> Encoded:
    """The cut-out's file.

    Raises `InvalidImage`: encoding_failed (a format that can not hold it), result_too_large.
    """
    if options.format is OutputFormat.AUTO:
        return _fitting(cutout, options, limits)
    return _encoded(cutout, options.format, options.quality, limits)


def _fitting(cutout: Picture, options: CutoutOptions, limits: Limits) -> Encoded:
    adjusted = cutout.adjusted
    if max(cutout.size) > MAX_WEBP_SIDE:
        cutout = scaled(cutout, MAX_WEBP_SIDE / max(cutout.size))
        adjusted = Adjusted.SMALLER
    lossy = options.quality or WEBP_QUALITY
    for quality in dict.fromkeys((options.quality, lossy)):
        try:
            done = _encoded(cutout, OutputFormat.WEBP, quality, limits)
        except InvalidImage as error:
            if error.code is not Code.RESULT_TOO_LARGE:
                raise
            adjusted = adjusted or Adjusted.LOSSY
        else:
            return done._replace(adjusted=adjusted)
    smaller = scaled(cutout, math.sqrt(0.5))
    if min(smaller.size) <= 1:
        raise InvalidImage(code=Code.RESULT_TOO_LARGE)
    again = options.model_copy(update={"quality": lossy})
    return _fitting(smaller, again, limits)._replace(adjusted=Adjusted.SMALLER)


def _encoded(cutout: Picture, output: OutputFormat, quality: int | None, limits: Limits) -> Encoded:
    file = _BoundedFile(limits.max_result_bytes)
    image = cutout.image
    try:
        match output:
            case OutputFormat.PNG:
                for piece in png_encoder.pieces(*image.size, _strips(image)):
                    file.write(piece)
            case OutputFormat.JPG:
                image.save(file, "JPEG", quality=quality or JPG_QUALITY)
            case OutputFormat.WEBP | OutputFormat.AUTO:
                if quality is None:
                    image.save(file, "WEBP", lossless=True, method=0, quality=0, exact=True)
                else:
                    # Not exact: what is transparent takes on the colour of the product beside it.
                    image.save(file, "WEBP", quality=quality, method=2)
            case _:
                assert_never(output)
    except (OSError, ValueError) as error:
        raise InvalidImage(code=Code.ENCODING_FAILED) from error
    return Encoded(file.getvalue(), output.content_type, image.width, image.height)


def _strips(image: Image.Image) -> Iterator[NDArray[np.uint8]]:
    """The rows of a picture (rows x width x 1, 3 or 4): no copy of all of it is made."""
    for box in strips(image.size):
        strip = np.asarray(image.crop(box))
        yield strip.reshape(*strip.shape[:2], -1)


class _BoundedFile(io.BytesIO):
    """Refuses what makes it longer than the limit, while it is written and not afterwards."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise InvalidImage(code=Code.RESULT_TOO_LARGE)
        return super().write(data)
