"""Combine a picture and its mask into the requested cut-out.

Rules, all of them:

* Fully transparent pixels have colour zero after every step: PNG and WebP would keep the
  background there for anyone who removes the alpha channel.
* Steps that mix pixels (a smaller size, a background colour) weight them by their alpha.
* Transparent pixels of the photo stay at least as transparent.
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
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import Channels, CutoutOptions, Edges, OutputFormat

GRID_CELLS = 60_000
STRIP_PIXELS = 100_000

_FAINT = 8
"""Alpha of 255 below which a pixel is invisible: a crop ignores it."""
_VISIBLE = [0] * _FAINT + [255] * (256 - _FAINT)

Box = tuple[int, int, int, int]


def cut(picture: Picture, mask: NDArray[np.float32], options: CutoutOptions) -> Picture:
    """Return the picture with the mask (height x width, 0..1, of any size) as its alpha.

    With clean edges, or the alpha channel alone (L), depending on the options.
    """
    masked = _alpha_of(mask, picture.size)
    alpha = _with_own_alpha(masked, picture.image)
    if options.channels is Channels.ALPHA:
        return Picture(image=alpha)
    layers = _layers(picture.image, alpha) if options.edges is Edges.CLEAN else None
    cutout = Image.new("RGBA", alpha.size)
    for box in strips(alpha.size):
        # The old background is mixed in only where the mask is soft: the photo's own transparent
        # pixels were mixed with nothing.
        pixels = np.array(_with_alpha(picture.image, masked, box))
        if layers is not None:
            edge_decontamination.clean(pixels, layers, top=box[1], height=alpha.height)
        if alpha is not masked:
            pixels[..., 3] = np.asarray(alpha.crop(box))
        cutout.paste(_without_hidden_colours(pixels), box)
    return Picture(image=cutout)


def keep(picture: Picture, options: CutoutOptions) -> Picture:
    """Return the picture with its own alpha and colours, or its alpha channel alone (L).

    Colours are final wherever the picture's own alpha is soft: there is no old background in them
    that could be estimated.
    """
    image = picture.image
    if options.channels is Channels.ALPHA:
        own = image.getchannel("A") if image.mode == "RGBA" else None
        return Picture(image=own or Image.new("L", picture.size, 255))
    cutout = image.convert("RGBA")
    for box in strips(cutout.size):
        cutout.paste(_without_hidden_colours(np.array(cutout.crop(box))), box)
    return Picture(image=cutout)


def arrange(cutout: Picture, options: CutoutOptions, *, limits: Limits = LIMITS) -> Picture:
    """Apply crop, size and background colour, in this order.

    If margins would exceed the limit of pixels, the cut-out is scaled down for `auto`, which
    `adjusted` records; any other format raises `InvalidImage` (result_too_large).
    """
    frame = _frame(cutout.image, options)
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    factor = _factor(width, height, options)
    adjusted: Adjusted | None = None
    most = max(limits.max_cutout_pixels, cutout.width * cutout.height)
    if width * height * factor * factor > most:
        if options.format is not OutputFormat.AUTO:
            raise InvalidImage("with its margins", code=Code.RESULT_TOO_LARGE)
        factor, adjusted = math.sqrt(most / (width * height)), Adjusted.SMALLER
    image = _crop_to(cutout.image, frame, factor)
    box = _visible_box(image)
    foreground = box and Foreground(box[0], box[1], box[2] - box[0], box[3] - box[1])
    if image.mode == "RGBA" and options.background is not None:
        ground = Image.new("RGB", image.size, options.background)
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    return Picture(image=image, adjusted=adjusted, foreground=foreground)


def scale(cutout: Picture, factor: float) -> Picture:
    """Scale both sides by this factor, with colour zero where it is transparent."""
    image = _resize(cutout.image, factor)
    return Picture(image=image, foreground=cutout.foreground and _scaled_box(cutout, image.size))


def _alpha_of(mask: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    """Return the mask as an alpha channel of this size."""
    levels = Image.fromarray(np.rint(mask * 255).astype(np.uint8))
    return levels.resize(size, Image.Resampling.BILINEAR)


def _with_own_alpha(masked: Image.Image, image: Image.Image) -> Image.Image:
    """Return the alpha channel multiplied by the photo's own."""
    if image.mode != "RGBA":
        return masked
    own = image.getchannel("A")
    return ImageChops.multiply(masked, own if own.size == masked.size else own.resize(masked.size))


def _layers(image: Image.Image, alpha: Image.Image) -> edge_decontamination.LayerColours:
    """Estimate the colours of both layers; the means of each cell are exact."""
    factor = max(1, round(math.sqrt(image.width * image.height / GRID_CELLS)))
    colours, products = [], []
    for box in strips(alpha.size, multiple=factor):
        strip = image.crop(box)
        # Colours hidden by the photo's own transparency have no weight, in either layer.
        is_own = strip.mode == "RGBA"
        colours.append(
            _premultiplied(strip, factor) if is_own else np.asarray(strip.reduce(factor))
        )
        products.append(_premultiplied(_with_alpha(image, alpha, box), factor))
    return edge_decontamination.estimate_layers(np.concatenate(colours), np.concatenate(products))


def _premultiplied(strip: Image.Image, factor: int) -> NDArray[np.uint8]:
    """Return the means of alpha times colour, and of alpha."""
    means = strip.convert("RGBa").reduce(factor)
    # Pillow's asarray does not support RGBa: use its bytes.
    cells = np.frombuffer(means.tobytes(), np.uint8)
    return cells.reshape(means.height, means.width, 4)


def strips(size: tuple[int, int], *, multiple: int = 1) -> Iterator[Box]:
    """Yield boxes from top to bottom, as wide as the picture, rows in multiples of `multiple`."""
    width, height = size
    rows = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _with_alpha(image: Image.Image, alpha: Image.Image, box: Box) -> Image.Image:
    strip = image.crop(box)
    strip.putalpha(alpha.crop(box))
    return strip


def _without_hidden_colours(pixels: NDArray[np.uint8]) -> Image.Image:
    """Zero the colour of transparent pixels (rows x width x RGBA), in place."""
    whole = pixels.view(np.uint32)[..., 0]
    whole[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def _frame(image: Image.Image, options: CutoutOptions) -> Box:
    """Return the box of the result; beyond the photo's border it is transparent."""
    box = _visible_box(image) if options.crop else None
    if box is None:
        return 0, 0, image.width, image.height
    left, top, right, bottom = box
    margins = options.margins(right - left, bottom - top)
    return left - margins.left, top - margins.top, right + margins.right, bottom + margins.bottom


def _visible_box(image: Image.Image) -> Box | None:
    """Return the box around all that is visible; None if nothing is."""
    alpha = image if image.mode == "L" else image.getchannel("A")
    return alpha.point(_VISIBLE).getbbox()


def _scaled_box(cutout: Picture, size: tuple[int, int]) -> Foreground:
    """Return where the product is once its cut-out has this size."""
    left, top, width, height = cutout.foreground or (0, 0, *cutout.size)
    sides = ((left, width, cutout.width, size[0]), (top, height, cutout.height, size[1]))
    (left, right), (top, bottom) = (
        (begin * scaled // side, -(-(begin + length) * scaled // side))
        for begin, length, side, scaled in sides
    )
    return Foreground(left, top, right - left, bottom - top)


def _factor(width: int, height: int, options: CutoutOptions) -> float:
    """Return the factor by which to scale down, at most 1."""
    if options.max_dimension is not None:
        return min(1.0, options.max_dimension / max(width, height))
    if options.size.max_pixels is not None:
        return min(1.0, math.sqrt(options.size.max_pixels / (width * height)))
    return 1.0


def _crop_to(image: Image.Image, frame: Box, factor: float) -> Image.Image:
    """Return the part in the frame, scaled down before margins are added."""
    left, top, right, bottom = frame
    inside = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    part = image if inside == (0, 0, *image.size) else image.crop(inside)
    if factor < 1:
        part = _resize(part, factor)
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


def _resize(image: Image.Image, factor: float) -> Image.Image:
    """Resize; Pillow weights colours by alpha, and leaves rounding errors where it is zero."""
    size = _scaled_size(*image.size, factor)
    small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return _without_hidden_colours(np.array(small)) if small.mode == "RGBA" else small
