"""From a picture and its mask to the cut-out that was asked for.

Rules, all of them:

* Where a cut-out is wholly transparent its colour is zero, whatever is done to it afterwards:
  PNG and WebP would keep the background there for whoever removes the alpha channel.
* Whatever mixes pixels (a smaller size, a ground of one colour) mixes them by their alpha.
* What was transparent in the photo stays at least as transparent.
* The largest picture needs no more memory than itself and its cut-out: the work is done in
  strips.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from erasestream.pipeline.stages.inference.imaging import edge_decontamination
from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import Channels, CutoutOptions, Edges, OutputFormat

GRID_CELLS = 60_000
STRIP_PIXELS = 100_000

_FAINT = 8
"""Alpha of 255 below which nobody sees anything: no crop has to make room for it."""
_VISIBLE = [0] * _FAINT + [255] * (256 - _FAINT)

Box = tuple[int, int, int, int]


def cut(picture: Picture, mask: NDArray[np.float32], options: CutoutOptions) -> Picture:
    """The picture with the mask (height x width, 0..1, of any size) as its alpha.

    With clean edges, if they are asked for; or the alpha alone (L), if only that is.
    """
    masked = _levels(mask, picture.size)
    alpha = _with_own(masked, picture.image)
    if options.channels is Channels.ALPHA:
        return Picture(image=alpha)
    sides = _sides(picture.image, alpha) if options.edges is Edges.CLEAN else None
    cutout = Image.new("RGBA", alpha.size)
    for box in strips(alpha.size):
        # Only where the mask is soft is the old background mixed in: what the photo itself has
        # of transparency was mixed with nothing.
        pixels = np.array(_with_alpha(picture.image, masked, box))
        if sides is not None:
            edge_decontamination.clean(pixels, sides, top=box[1], height=alpha.height)
        if alpha is not masked:
            pixels[..., 3] = np.asarray(alpha.crop(box))
        cutout.paste(_without_hidden_colours(pixels), box)
    return Picture(image=cutout)


def arrange(cutout: Picture, options: CutoutOptions, *, limits: Limits = LIMITS) -> Picture:
    """Crop, size and background colour, in this order.

    Where margins would make more pixels than are taken, all is made smaller for `auto`, and said;
    for another format `InvalidImage` (result_too_large) is raised.
    """
    frame = _frame(cutout.image, options)
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    factor = _factor(width, height, options)
    adjusted: Adjusted | None = None
    most = max(limits.max_pixels, cutout.width * cutout.height)
    if width * height * factor * factor > most:
        if options.format is not OutputFormat.AUTO:
            raise InvalidImage("with its margins", code=Code.RESULT_TOO_LARGE)
        factor, adjusted = math.sqrt(most / (width * height)), Adjusted.SMALLER
    image = _framed(cutout.image, frame, factor)
    if image.mode == "RGBA" and options.background is not None:
        ground = Image.new("RGB", image.size, options.background)
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    return Picture(image=image, adjusted=adjusted)


def scaled(cutout: Picture, factor: float) -> Picture:
    """Smaller by this factor on both sides, with nothing under what is transparent."""
    return Picture(image=_resized(cutout.image, factor))


def _levels(mask: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    """The mask as an alpha channel of this size."""
    levels = Image.fromarray(np.rint(mask * 255).astype(np.uint8))
    return levels.resize(size, Image.Resampling.BILINEAR)


def _with_own(masked: Image.Image, image: Image.Image) -> Image.Image:
    """The alpha channel, made as transparent as the photo's own."""
    if image.mode != "RGBA":
        return masked
    own = image.getchannel("A")
    return ImageChops.multiply(masked, own if own.size == masked.size else own.resize(masked.size))


def _sides(image: Image.Image, alpha: Image.Image) -> edge_decontamination.Sides:
    """The means of each cell are exact: both are averaged from full size."""
    factor = max(1, round(math.sqrt(image.width * image.height / GRID_CELLS)))
    colours, products = [], []
    for box in strips(alpha.size, multiple=factor):
        strip = image.crop(box)
        # What is hidden under the photo's own transparency weighs nothing, on either side.
        is_own = strip.mode == "RGBA"
        colours.append(
            _premultiplied(strip, factor) if is_own else np.asarray(strip.reduce(factor))
        )
        products.append(_premultiplied(_with_alpha(image, alpha, box), factor))
    return edge_decontamination.sides(np.concatenate(colours), np.concatenate(products))


def _premultiplied(strip: Image.Image, factor: int) -> NDArray[np.uint8]:
    """The means of alpha times colour, and of alpha."""
    means = strip.convert("RGBa").reduce(factor)
    # Pillow's asarray knows no RGBa: its bytes are what they are.
    cells = np.frombuffer(means.tobytes(), np.uint8)
    return cells.reshape(means.height, means.width, 4)


def strips(size: tuple[int, int], *, multiple: int = 1) -> Iterator[Box]:
    """From top to bottom, each of the picture's width and of so many rows, or a multiple."""
    width, height = size
    rows = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _with_alpha(image: Image.Image, alpha: Image.Image, box: Box) -> Image.Image:
    strip = image.crop(box)
    strip.putalpha(alpha.crop(box))
    return strip


def _without_hidden_colours(pixels: NDArray[np.uint8]) -> Image.Image:
    """Of pixels (rows x width x RGBA), which are changed."""
    whole = pixels.view(np.uint32)[..., 0]
    whole[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def _frame(image: Image.Image, options: CutoutOptions) -> Box:
    """What comes out of it; beyond the photo's own border it goes on, transparent."""
    alpha = image if image.mode == "L" else image.getchannel("A")
    box = alpha.point(_VISIBLE).getbbox() if options.crop else None
    if box is None:
        return 0, 0, image.width, image.height
    left, top, right, bottom = box
    margins = options.margins(right - left, bottom - top)
    return left - margins.left, top - margins.top, right + margins.right, bottom + margins.bottom


def _factor(width: int, height: int, options: CutoutOptions) -> float:
    """How much smaller it has to be, or 1."""
    if options.max_dimension is not None:
        return min(1.0, options.max_dimension / max(width, height))
    if options.size.max_pixels is not None:
        return min(1.0, math.sqrt(options.size.max_pixels / (width * height)))
    return 1.0


def _framed(image: Image.Image, frame: Box, factor: float) -> Image.Image:
    """What lies in the frame, made smaller before there is room around it."""
    left, top, right, bottom = frame
    inside = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    part = image if inside == (0, 0, *image.size) else image.crop(inside)
    if factor < 1:
        part = _resized(part, factor)
    if inside == frame:
        return part
    canvas = Image.new(image.mode, _scaled_size(right - left, bottom - top, factor))
    corner = (
        min(round((inside[0] - left) * factor), canvas.width - part.width),
        min(round((inside[1] - top) * factor), canvas.height - part.height),
    )
    canvas.paste(part, corner)
    return canvas


def _scaled_size(width: int, height: int, factor: float) -> tuple[int, int]:
    return max(1, int(width * factor + 1e-6)), max(1, int(height * factor + 1e-6))


def _resized(image: Image.Image, factor: float) -> Image.Image:
    """Pillow weighs the colours by their alpha; what it leaves under none is rounding."""
    size = _scaled_size(*image.size, factor)
    small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return _without_hidden_colours(np.array(small)) if small.mode == "RGBA" else small
