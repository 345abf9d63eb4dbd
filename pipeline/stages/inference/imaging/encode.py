"""Encode a cut-out, with a size limit that holds while the file is written.

`auto` steps down until the file fits: WebP lossless, lossy, then half as many pixels at a time;
`adjusted` records it.  Every other format fits or is refused, never degraded.
"""

import io
import math
from collections.abc import Iterator
from typing import IO, NamedTuple, assert_never
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erasestream.pipeline.stages.inference.imaging import png_encoder
from erasestream.pipeline.stages.inference.imaging.compose import scale, strips
from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import CutoutOptions, OutputFormat

JPG_QUALITY = 90
WEBP_QUALITY = 90
MAX_WEBP_SIDE = 16_383
"""RFC 9649, section 2.5: 14 bits."""


class EncodedImage(NamedTuple):
    """Image file, with its size in pixels."""

    data: bytes
    content_type: str
    width: int
    height: int
    adjusted: Adjusted | None = None
    foreground: Foreground | None = None


def encode(cutout: Picture, options: CutoutOptions, *, limits: Limits = LIMITS) -> EncodedImage:
    """Return the cut-out's file.

    Raises `InvalidImage`: encoding_failed (the format does not support its size),
    result_too_large.
    """
    if options.format is OutputFormat.AUTO:
        return _encode_to_fit(cutout, options, limits)
    return _encode(cutout, options.format, options.quality, limits)


def _encode_to_fit(cutout: Picture, options: CutoutOptions, limits: Limits) -> EncodedImage:
    adjusted = cutout.adjusted
    if max(cutout.size) > MAX_WEBP_SIDE:
        cutout = scale(cutout, MAX_WEBP_SIDE / max(cutout.size))
        adjusted = Adjusted.SMALLER
    lossy = options.quality or WEBP_QUALITY
    for quality in dict.fromkeys((options.quality, lossy)):
        try:
            done = _encode(cutout, OutputFormat.WEBP, quality, limits)
        except InvalidImage as error:
            if error.code is not Code.RESULT_TOO_LARGE:
                raise
            adjusted = adjusted or Adjusted.LOSSY
        else:
            return done._replace(adjusted=adjusted)
    smaller = scale(cutout, math.sqrt(0.5))
    if min(smaller.size) <= 1:
        raise InvalidImage(code=Code.RESULT_TOO_LARGE)
    again = options.model_copy(update={"quality": lossy})
    return _encode_to_fit(smaller, again, limits)._replace(adjusted=Adjusted.SMALLER)


def _encode(
    cutout: Picture, output: OutputFormat, quality: int | None, limits: Limits
) -> EncodedImage:
    file = _BoundedFile(limits.max_result_bytes)
    image = cutout.image
    try:
        match output:
            case OutputFormat.PNG:
                _write_png(image, file)
            case OutputFormat.JPG:
                image.save(file, "JPEG", quality=quality or JPG_QUALITY)
            case OutputFormat.ZIP:
                _write_zip(image, file, quality)
            case OutputFormat.WEBP | OutputFormat.AUTO:
                if quality is None:
                    image.save(file, "WEBP", lossless=True, method=0, quality=0, exact=True)
                else:
                    # Not exact: transparent pixels take on the colour of the product beside them.
                    image.save(file, "WEBP", quality=quality, method=2)
            case _:
                assert_never(output)
    except (OSError, ValueError) as error:
        raise InvalidImage(code=Code.ENCODING_FAILED) from error
    return EncodedImage(
        file.getvalue(), output.content_type, *image.size, foreground=cutout.foreground
    )


def _write_png(image: Image.Image, file: IO[bytes]) -> None:
    for piece in png_encoder.encode_png(*image.size, _strips(image)):
        file.write(piece)


def _write_zip(image: Image.Image, file: IO[bytes], quality: int | None) -> None:
    """Write colour, which is zero where nothing is, and alpha, as files of their own."""
    with ZipFile(file, "w") as archive:
        with archive.open(ZipInfo("color.jpg"), "w") as colour:
            image.convert("RGB").save(colour, "JPEG", quality=quality or JPG_QUALITY)
        with archive.open(ZipInfo("alpha.png"), "w") as alpha:
            _write_png(image.getchannel("A"), alpha)


def _strips(image: Image.Image) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of a picture (rows x width x 1, 3 or 4) without copying all of it."""
    for box in strips(image.size):
        strip = np.asarray(image.crop(box))
        yield strip.reshape(*strip.shape[:2], -1)


class _BoundedFile(io.BytesIO):
    """File that refuses a write beyond the limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise InvalidImage(code=Code.RESULT_TOO_LARGE)
        return super().write(data)
