"""Pictures as Pillow's images."""

import io

from PIL import Image, ImageOps

Picture = Image.Image


def upright_image(data: bytes) -> Picture:
    """Return a picture upright, by its orientation tag, so that photo and cut-out match."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return ImageOps.exif_transpose(image)
