"""Convert pixels to sRGB by an ICC profile, within bounds."""

import io
from functools import cache

import numpy as np
from PIL import Image, ImageCms

_ROUNDING = 2
"""Levels of 255 by which profiles that all describe sRGB differ."""
# LittleCMS and Pillow report unusable profiles in different ways.
_UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def to_srgb(colours: Image.Image, profile: bytes) -> Image.Image | None:
    """Return L, RGB or CMYK pixels in sRGB; None if the profile is unusable, or for others."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if colours.mode == "L":
            if source.profile.xcolor_space.strip() == "GRAY":
                return _grey_to_srgb(colours, source)
            colours = colours.convert("RGB")  # a profile for colours is valid for greys as well
        if colours.mode == "RGB" and _is_srgb(source):
            return colours
        return ImageCms.profileToProfile(colours, source, _srgb(), outputMode="RGB")
    except _UNUSABLE:
        return None


def _grey_to_srgb(greys: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """Convert all 256 greys, exactly, and look up those of the picture."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    table = np.asarray(_converted(ramp, source))[0]
    return Image.merge("RGB", [greys.point(table[:, band].tolist()) for band in range(3)])


def _is_srgb(source: ImageCms.ImageCmsProfile) -> bool:
    """Return whether a profile leaves sample colours unchanged, to skip a costly conversion.

    Almost every profile is sRGB.  Its name proves nothing: linear profiles are called sRGB too.
    """
    changes = np.asarray(_converted(_sample_colours(), source)).astype(int) - _sample_colours()
    return int(np.abs(changes).max()) <= _ROUNDING


def _converted(samples: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    # Optimising a transform pays for a whole picture only.
    transform = ImageCms.buildTransform(
        source, _srgb(), samples.mode, "RGB", flags=ImageCms.Flags.NOOPTIMIZE
    )
    done = ImageCms.applyTransform(samples, transform)
    if done is None:
        raise ImageCms.PyCMSError
    return done


@cache
def _sample_colours() -> Image.Image:
    """Return an image with colours of every brightness and hue."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(colours.reshape(len(levels), -1, 3))


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
