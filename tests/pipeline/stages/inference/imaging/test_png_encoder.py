"""Encoding PNG: another decoder reads the same pixels, whatever they are."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.pipeline.stages.inference.imaging.encode import encode
from erasestream.pipeline.stages.inference.imaging.png_encoder import encode_png
from erasestream.schemas.options import CutoutOptions
from tests.pipeline.stages.inference.pictures import disc

FEW_LEVELS = st.sampled_from([0, 1, 2, 3, 127, 128, 254, 255])
"""Equal neighbours, and differences that exceed 8 bits."""
PICTURES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=FEW_LEVELS | st.integers(0, 255))
)


def encode_in_strips(pixels: np.ndarray, rows: int) -> bytes:
    """Encode a file in strips of so many rows."""
    strips = [pixels[top : top + rows] for top in range(0, len(pixels), rows)]
    return b"".join(encode_png(pixels.shape[1], pixels.shape[0], strips))


@given(pixels=PICTURES, rows=st.integers(1, 9))
def test_decoding_returns_the_encoded_pixels(pixels: np.ndarray, rows: int) -> None:
    """Grey, RGB and RGBA, however it is cut into strips."""
    image = Image.open(io.BytesIO(encode_in_strips(pixels, rows)))
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


def test_a_file_holds_nothing_but_a_header_and_pixels() -> None:
    """Each chunk has a valid checksum; the deflate stream is complete, with its own checksum."""
    pixels = np.random.default_rng(5).integers(0, 256, (300, 200, 4), np.uint8)
    data = encode_in_strips(pixels, 100)
    chunks, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        assert checksum == zlib.crc32(kind + content)
        chunks.append((kind, content))
        at += 12 + length
    kinds = [kind for kind, _ in chunks]
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    assert set(kinds[1:-1]) == {b"IDAT"}
    assert kinds.count(b"IDAT") > 1, "the pixels are in one chunk"
    inflate = zlib.decompressobj()
    raw = inflate.decompress(b"".join(content for _, content in chunks[1:-1]))
    assert inflate.eof
    assert not inflate.unused_data
    assert len(raw) == 300 * (200 * 4 + 1)


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png"])
def test_a_photo_takes_about_as_many_bytes_as_with_pillow(name: str) -> None:
    """At most a fifteenth more than with its quickest setting, which looks for runs only."""
    photo = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
    photo.putalpha(Image.fromarray((disc(512) * 255).astype(np.uint8)).resize(photo.size))
    pixels = np.array(photo)
    pixels[pixels[..., 3] == 0] = 0
    cutout = Image.fromarray(pixels)
    file = io.BytesIO()
    cutout.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    ours = encode(Picture(image=cutout), CutoutOptions()).data
    assert len(ours) <= len(file.getvalue()) * 16 / 15
    assert (np.asarray(Image.open(io.BytesIO(ours))) == pixels).all()
