"""Image files for tests, created in memory."""

import io
import struct
import zlib
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.decode import Picture

RED = (200, 30, 40)


def gradient(width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture whose corners all differ."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def opened(data: bytes) -> Image.Image:
    """Return the picture of a cut-out; of a zip, its colour with its alpha."""
    if not is_zipfile(io.BytesIO(data)):
        return Image.open(io.BytesIO(data))
    with ZipFile(io.BytesIO(data)) as archive:
        colour, alpha = (
            Image.open(io.BytesIO(archive.read(name))) for name in ("color.jpg", "alpha.png")
        )
    colour.putalpha(alpha)
    return colour


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(picture: Picture) -> np.ndarray:
    """Return the values of a decoded picture, in a type wide enough to subtract them."""
    return np.asarray(picture.image).astype(int)


def disc(size: int = 64) -> NDArray[np.float32]:
    """Return a mask: 1 within a circle, 0 around it, and a soft edge."""
    y, x = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return np.clip(size / 3 - np.hypot(x, y), 0, 1).astype(np.float32)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG."""
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG that declares a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_bomb(width: int, height: int) -> bytes:
    """Return a small JPEG whose frame header declares a huge picture."""
    data = bytearray(saved(gradient(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_bomb(width: int, height: int) -> bytes:
    """Return a small extended WebP with a huge canvas."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
