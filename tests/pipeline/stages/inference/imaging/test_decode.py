"""Decoding untrusted files: formats, limits, orientation."""

import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.imaging.scaling import size_within
from erasestream.schemas.errors import Code, InvalidImage
from tests.pipeline.stages.inference.pictures import (
    gradient,
    jpeg_bomb,
    pixels_of,
    png_bomb,
    saved,
    webp_bomb,
)

FORMATS = ["JPEG", "PNG", "WEBP"]


def refusal(data: bytes, **limits: int) -> Code:
    """Return the code with which these bytes are refused."""
    with pytest.raises(InvalidImage) as refused:
        decode(data, limits=Limits(**limits))
    return refused.value.code


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_decoded(kind: str) -> None:
    """With its size and its colours."""
    picture = decode(saved(gradient(), kind, quality=95))
    assert (picture.width, picture.height, picture.image.mode) == (96, 64, "RGB")
    assert np.abs(pixels_of(picture) - np.asarray(gradient())).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_that_pillow_supports_are_refused(kind: str) -> None:
    assert refusal(saved(gradient(), kind)) is Code.UNSUPPORTED_FORMAT


def test_empty_and_foreign_bytes_have_codes_of_their_own() -> None:
    assert refusal(b"") is Code.EMPTY
    assert refusal(b"<html>not an image</html>") is Code.UNSUPPORTED_FORMAT


def test_the_limit_of_bytes_is_exact() -> None:
    data = saved(gradient(), "JPEG")
    assert refusal(data, max_bytes=len(data) - 1) is Code.TOO_LARGE
    assert decode(data, limits=Limits(max_bytes=len(data))).width == 96


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_is_truncated(kind: str, share: float) -> None:
    """Whatever part is missing: half a picture is never returned."""
    noise = Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3))
    data = saved(noise, kind, quality=90)
    assert refusal(data[: int(len(data) * share)]) is Code.TRUNCATED


def test_a_damaged_file_is_corrupt() -> None:
    """A PNG that is complete, with one byte of its pixels changed; a WebP without a header."""
    data = bytearray(saved(gradient()))
    data[data.index(b"IDAT") + 30] ^= 0xFF
    assert refusal(bytes(data)) is Code.CORRUPT
    assert refusal(b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0\0\0\0\0") is Code.CORRUPT


@pytest.mark.parametrize("bomb", [png_bomb, jpeg_bomb, webp_bomb])
def test_a_bomb_is_refused_by_its_header(bomb: Callable[[int, int], bytes]) -> None:
    """Small files that declare too many pixels are refused, not decoded."""
    data = bomb(16_000, 16_000)
    assert len(data) < 10_000
    assert refusal(data) is Code.TOO_MANY_PIXELS


def test_the_limit_of_pixels_is_exact() -> None:
    data = saved(gradient(50, 20))
    assert decode(data, limits=Limits(max_pixels=1000)).width == 50
    assert refusal(data, max_pixels=999) is Code.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    frames = [gradient().rotate(90 * turn) for turn in (1, 2)]
    data = saved(gradient(), kind, save_all=True, append_images=frames, duration=50)
    assert refusal(data) is Code.ANIMATED


@pytest.mark.parametrize("transparent", [False, True])
def test_an_animated_webp_of_one_frame_is_a_still(transparent: bool) -> None:
    picture = gradient().convert("RGBA") if transparent else gradient()
    if transparent:
        picture.putpixel((3, 4), (0, 0, 0, 0))
    data = one_frame(picture)
    decoded = decode(data)
    assert decoded.image.mode == picture.mode
    assert np.array_equal(pixels_of(decoded)[5:], np.asarray(picture)[5:])
    assert refusal(data[: len(data) // 2]) is Code.TRUNCATED


def one_frame(still: Image.Image) -> bytes:
    """Return an animated WebP with one frame, which Pillow does not write."""
    file = saved(still, "WEBP", lossless=True)
    bitstream = file[file.index(b"VP8L") :]
    size = (still.width - 1).to_bytes(3, "little") + (still.height - 1).to_bytes(3, "little")
    has_alpha = still.mode == "RGBA"
    frame = bytes(6) + size + bytes(4) + bitstream
    chunks = (
        webp_chunk(b"VP8X", bytes([0x02 | 0x10 * has_alpha, 0, 0, 0]) + size)
        + webp_chunk(b"ANIM", bytes(6))
        + webp_chunk(b"ANMF", frame)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a WebP."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def test_of_a_file_with_several_pictures_the_first_is_decoded() -> None:
    """MPO files of phones (previews, depth or gain maps behind the photo) are JPEGs."""
    data = saved(gradient(), "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    assert np.abs(pixels_of(decode(data)) - np.asarray(gradient())).mean() < 4


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = decode(saved(gradient(), kind, exif=exif, quality=95))
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    expected = turn(np.asarray(gradient()).astype(int))
    assert np.abs(pixels_of(picture) - expected).mean() < 4


@pytest.mark.parametrize("kind", FORMATS)
def test_orientation_in_xmp_alone_is_not_applied(kind: str) -> None:
    """As in browsers, libvips and ImageMagick; EXIF decides."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options = {"pnginfo": text} if kind == "PNG" else {"xmp": xmp}
    assert decode(saved(gradient(), kind, **options)).size == (96, 64)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    assert decode(saved(gradient(), kind, exif=exif, **options)).size == (64, 96)


def test_a_draft_is_smaller_and_knows_the_size_of_the_photo() -> None:
    """A JPEG is decoded in part, a rotated one as well."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = decode(saved(gradient(960, 640), "JPEG", exif=exif), draft=100)
    assert picture.size == (640, 960)
    assert picture.image.size in ((80, 120), (160, 240))
    assert decode(saved(gradient(960, 640)), draft=100).image.size == (960, 640)


def test_invalid_exif_is_ignored() -> None:
    data = saved(gradient(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(pixels_of(decode(data)), np.asarray(gradient()))


@settings(max_examples=150)
@given(kind=st.sampled_from(FORMATS), data=st.data())
def test_mutated_files_are_decoded_or_refused(kind: str, data: st.DataObject) -> None:
    """Whatever bytes are changed, the result is a picture or a refusal with a code."""
    file = bytearray(saved(gradient(24, 16), kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(file), limits=Limits(max_pixels=1_000_000))
    except InvalidImage:
        return
    assert picture.image.mode in {"RGB", "RGBA"}


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 0}),
        ("WEBP", "RGB", {"lossless": True}),
    ],
)
def test_more_pixels_than_a_cutout_may_have_are_scaled_down(
    kind: str, mode: str, options: dict[str, Any]
) -> None:
    """To the same picture, as far as its pixels go; upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(gradient(96, 64).convert(mode), kind, exif=exif, **options)
    whole, small = decode(data), decode(data, limits=Limits(max_cutout_pixels=1536))
    assert (whole.size, small.size, small.image.size) == ((64, 96), (32, 48), (32, 48))
    assert small.image.mode == whole.image.mode
    expected = np.asarray(whole.image.resize((32, 48), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(small.image) - expected).mean() < 3


def test_hidden_colours_are_not_mixed_in_when_a_picture_is_scaled_down() -> None:
    picture = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 21, 40))
    small = decode(saved(picture), limits=Limits(max_cutout_pixels=400)).image
    visible = np.asarray(small)[np.asarray(small)[..., 3] > 0]
    assert (visible[:, 0] <= 1).all()


def test_a_mask_has_no_more_pixels_than_a_cutout_may_have() -> None:
    data = saved(gradient(96, 64), "JPEG")
    picture = decode(data, limits=Limits(max_cutout_pixels=1536), draft=8)
    assert picture.size == (48, 32)


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [((10, 10), 100, (10, 10)), ((10_000, 1), 100, (100, 1)), ((3, 1000), 100, (1, 100))],
)
def test_the_shape_is_kept_as_far_as_pixels_go(
    size: tuple[int, int], most: int, expected: tuple[int, int]
) -> None:
    assert size_within(size, most) == expected
