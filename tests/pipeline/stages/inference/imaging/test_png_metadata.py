"""Metadata of PNGs is bounded: text, profiles, orientation."""

import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from erasestream.pipeline.stages.inference.imaging.decode import decode
from tests.pipeline.stages.inference.pictures import (
    gradient,
    pixels_of,
    png_chunk,
    saved,
)


def with_chunks(*chunks: bytes, image: Image.Image | None = None) -> bytes:
    """Return a PNG with these chunks after its header."""
    data = saved(image or gradient())
    return data[:33] + b"".join(chunks) + data[33:]


def packed(text: bytes) -> bytes:
    """Return a compression method (there is one) and the compressed text."""
    return b"\0" + zlib.compress(text)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"Comment\0" + packed(bytes(3_000_000))),
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        png_chunk(b"zTXt", b"Raw profile type exif\0" + packed(bytes(3_000_000))),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        png_chunk(b"tEXt", b"Comment\0" + bytes(3_000_000)),
        png_chunk(b"iCCP", b"long\0" + packed(bytes(5_000_000))),
        png_chunk(b"iCCP", b"no profile"),
    ],
    ids=["text", "international", "exif", "xmp", "plain", "profile", "nothing"],
)
def test_long_metadata_is_dropped(chunk: bytes) -> None:
    """A picture is not refused for a long editing history, or a long profile."""
    picture = decode(with_chunks(chunk, chunk))
    assert np.array_equal(pixels_of(picture), np.asarray(gradient()))


def test_bombs_of_text_get_no_memory() -> None:
    """However many there are: 64 of them would take a gigabyte."""
    bomb = png_chunk(b"zTXt", b"XML:com.adobe.xmp\0" + packed(bytes(16 << 20)))
    data = with_chunks(*[bomb] * 64)
    tracemalloc.start()
    try:
        assert np.array_equal(pixels_of(decode(data)), np.asarray(gradient()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_orientation_in_text_is_applied(kind: bytes) -> None:
    """As by Pillow: in XMP, or in the copy of EXIF that old programs write."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    raw = f"\nexif\n{len(exif.tobytes())}\n{exif.tobytes().hex()}\n".encode()
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    chunk = {
        b"zTXt": png_chunk(kind, b"Raw profile type exif\0" + packed(raw)),
        b"iTXt": png_chunk(kind, b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        b"tEXt": png_chunk(kind, b"Raw profile type exif\0" + raw),
    }[kind]
    assert decode(with_chunks(chunk)).size == (64, 96)
