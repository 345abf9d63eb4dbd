"""Decode a stranger's image file.

Rules, all of them:

* The format is determined by the content, never by a name: JPEG, PNG or WebP, nothing else.
* Every limit is checked on the header, before any pixel is decoded.
* A picture of more pixels than a cut-out may have is scaled down.
* The result is upright, 8-bit and sRGB, and has nothing but pixels: no EXIF, position, comment,
  profile or text of the photo gets into a cut-out.
"""

import io
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from erasestream.pipeline.stages.inference.imaging import (
    colour_spaces,
    jpeg_coverage,
    jpeg_metadata,
    png_colour,
    png_metadata,
    profiles,
    webp_header,
)
from erasestream.pipeline.stages.inference.imaging.colour_spaces import SRGB, ColourSpace
from erasestream.pipeline.stages.inference.imaging.jpeg_segments import END as END_OF_JPEG
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.imaging.png_chunks import END as END_OF_PNG
from erasestream.pipeline.stages.inference.imaging.scaling import scaled_to, size_within
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.image_formats import JPEG, PNG, WEBP, sniff_content_type

# Errors of Pillow for malformed files (it lets its parsers' errors through).
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError,
    AssertionError, struct.error,
)  # fmt: skip

_OPENERS: dict[str, type[ImageFile]] = {
    JPEG: JpegImageFile,
    PNG: PngImageFile,
    WEBP: WebPImageFile,
}

# EXIF 2.32, section 4.6.4: the transposition that makes the picture upright.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = {5, 6, 7, 8}

_SCALABLE = {"L", "LA", "RGB", "RGBA", "CMYK"}
"""Modes whose pixels can be mixed before they are converted, which takes less memory."""
_BITS = 8
"""Bits of each value in Pillow."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Upright 8-bit sRGB pixels, RGB or RGBA (or L: a mask), without metadata."""

    image: Image.Image = field(repr=False)
    full_size: tuple[int, int] | None = None
    """Size of the photo, if it was decoded at a smaller size."""
    adjusted: Adjusted | None = None
    """Change that was made so that it fits."""
    foreground: Foreground | None = None
    """Where the product is in a cut-out, unless nothing is visible."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo, in pixels."""
        return self.full_size or self.image.size

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.size[1]


def decode(data: bytes, *, limits: Limits = LIMITS, draft: int | None = None) -> Picture:
    """Return the pixels of an untrusted image, upright and in sRGB.

    `draft`: this many pixels a side are enough, where only a model sees the picture; a JPEG is
    then decoded at a half, a quarter or an eighth of its size, which saves most of the work.

    Raises `InvalidImage`: empty, too_large, unsupported_format, too_many_pixels, animated,
    truncated or corrupt.
    """
    if not data:
        raise InvalidImage(code=Code.EMPTY)
    if len(data) > limits.max_bytes:
        raise InvalidImage(limits.detail_for(Code.TOO_LARGE), code=Code.TOO_LARGE)
    content_type = sniff_content_type(data)
    if content_type is None:
        raise InvalidImage(code=Code.UNSUPPORTED_FORMAT)
    file = _take_apart(data, content_type, limits)
    try:
        image = _open(content_type, file.data, limits)
        size = image.size
        if draft is not None:
            image.draft(None, (draft, draft))
        image.load()
    except _DAMAGED as error:
        raise InvalidImage(code=_failure_code(file, error)) from error
    orientation = _orientation(file.exif or image.info.get("exif"))
    most = limits.max_cutout_pixels
    raw: Image.Image = image
    del image  # a large one is not kept while a smaller one is converted
    if raw.mode in _SCALABLE and "transparency" not in raw.info:
        raw = scaled_to(raw, most)
    colours = scaled_to(_to_srgb(raw, file, limits), most)
    size = size_within(size, most)
    is_turned = orientation in _SWAPS_SIDES
    upright = _transpose(colours, orientation)
    return Picture(image=upright, full_size=size[::-1] if is_turned else size)


class _File(NamedTuple):
    """A file for Pillow, and the facts that Pillow is not asked for."""

    data: bytes
    ending: bytes = b""
    """Bytes that a file without its end does not contain."""
    bits: int = _BITS
    exif: bytes | None = None
    profile: bytes | None = None
    space: ColourSpace = SRGB
    """Meaning of the colours where no profile can be used."""


def _take_apart(data: bytes, content_type: str, limits: Limits) -> _File:
    if content_type == WEBP:
        _check_webp(data, limits)
        return _File(data)
    if content_type == JPEG:
        jpeg = jpeg_metadata.read(data)
        return _File(jpeg.data, END_OF_JPEG, exif=jpeg.exif, profile=jpeg.profile)
    png = png_metadata.read(data)
    if png.animated:
        raise InvalidImage(code=Code.ANIMATED)
    colour = png_colour.describe(png.notes, max_profile_bytes=limits.max_profile_bytes)
    return _File(
        png.data, END_OF_PNG, png.bit_depth, png.exif, profile=colour.profile, space=colour.space
    )


def _open(content_type: str, data: bytes, limits: Limits) -> ImageFile:
    image = _OPENERS[content_type](io.BytesIO(data))
    _check_size(image.width, image.height, limits)
    if content_type != JPEG:
        return image
    if code := jpeg_coverage.missing(data):
        raise InvalidImage(code=code)
    has_end = data.endswith(END_OF_JPEG) or END_OF_JPEG in data
    if not has_end and jpeg_coverage.is_proven(data):
        return JpegImageFile(io.BytesIO(data + END_OF_JPEG))  # only its end is missing
    return image


def _check_webp(data: bytes, limits: Limits) -> None:
    header = webp_header.read_header(data)
    if header is None:
        raise InvalidImage(code=Code.CORRUPT)
    _check_size(header.width, header.height, limits)
    if header.animated:
        raise InvalidImage(code=Code.ANIMATED)
    if header.file_bytes > len(data):
        raise InvalidImage(code=Code.TRUNCATED)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise InvalidImage(limits.detail_for(Code.TOO_MANY_PIXELS), code=Code.TOO_MANY_PIXELS)


def _failure_code(file: _File, error: BaseException) -> Code:
    """Return truncated or corrupt: Pillow's decoders report them in different ways."""
    if "truncated" in str(error).lower() or file.ending not in file.data:
        return Code.TRUNCATED
    return Code.CORRUPT


def _orientation(exif: object) -> int:
    """Return the orientation by EXIF alone: other programs do not believe XMP either."""
    if not isinstance(exif, bytes):
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        return int(tags.get(ExifTags.Base.Orientation, 1))
    except _DAMAGED:
        return 1  # unreadable EXIF is ignored


def _transpose(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TRANSPOSITIONS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_srgb(image: Image.Image, file: _File, limits: Limits) -> Image.Image:
    """Convert to 8-bit RGB, or RGBA if anything is transparent, by the image's profile if any."""
    alpha = _alpha(image, file.bits)
    match image.mode:
        case "I;16" | "I;16B" | "I":
            colours = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        case "LA":
            colours = image.getchannel("L")
        case "1":
            colours = image.convert("L")
        case "L" | "CMYK" | "RGB":
            colours = image
        case _:
            colours = image.convert("RGB")
    profile = file.profile or image.info.get("icc_profile")
    colours = _convert(colours, profile, file.space, limits)
    if alpha is not None:
        colours.putalpha(alpha)
    colours.info.clear()
    return colours


def _alpha(image: Image.Image, bits: int) -> Image.Image | None:
    """Return the alpha channel, None if the image is opaque.

    Pillow converts values to 8 bits, but leaves the transparent one as it is in the file.  Of
    colours with 16 bits only 8 are left: all that equal the transparent one in them are
    transparent.
    """
    match image.info.get("transparency"):
        case int(value) if image.mode == "L" and bits < _BITS:
            image.info["transparency"] = value * 255 // (2**bits - 1)
        case (red, green, blue) if bits > _BITS:
            image.info["transparency"] = red >> 8, green >> 8, blue >> 8
    if image.mode.startswith("I") and isinstance(image.info.get("transparency"), int):
        opaque = np.asarray(image) != image.info["transparency"]
        return Image.fromarray(opaque.astype(np.uint8) * 255)
    if image.has_transparency_data:
        return image.convert("RGBA").getchannel("A")
    return None


def _convert(
    colours: Image.Image, profile: object, space: ColourSpace, limits: Limits
) -> Image.Image:
    if isinstance(profile, bytes) and 0 < len(profile) <= limits.max_profile_bytes:
        done = profiles.to_srgb(colours, profile)
        if done is not None:
            return done
    done = colour_spaces.to_srgb(colours, space)
    return done if done.mode == "RGB" else done.convert("RGB")
