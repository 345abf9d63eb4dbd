"""The declared size, read without decoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from erasestream.pipeline.stages.inference.imaging import frame_size
from tests.pipeline.stages.inference.pictures import (
    gradient,
    jpeg_bomb,
    png_bomb,
    saved,
    webp_bomb,
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_size_of_each_format_is_read(kind: str) -> None:
    """Whatever precedes it: EXIF with a preview of another size, for example."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = saved(gradient(33, 44), "JPEG").hex()
    data = saved(gradient(), kind, exif=exif)
    assert frame_size.pixels(data) == 96 * 64
    assert frame_size.pixels(saved(gradient(), kind, lossless=True, progressive=True)) == 96 * 64


def test_a_bomb_has_the_size_that_it_declares() -> None:
    """The caller bounds it."""
    assert {
        frame_size.pixels(bomb(15_000, 9_000)) for bomb in (png_bomb, jpeg_bomb, webp_bomb)
    } == {135_000_000}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff\xe0\0\2" * 2000 + b"\xff\xc0\0\x0b\x08\0\x40\0\x40",
        b"\xff\xd8" + b"\xff" * 100_000,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 100_000,
    ],
    ids=["empty", "other", "start", "too many segments", "fill bytes", "without length"],
)
def test_what_declares_no_size_has_none(data: bytes) -> None:
    assert frame_size.pixels(data) == 0


@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBPVP8X"]), st.binary())
def test_any_file_has_a_size(head: bytes, rest: bytes) -> None:
    assert frame_size.pixels(head + rest) >= 0
