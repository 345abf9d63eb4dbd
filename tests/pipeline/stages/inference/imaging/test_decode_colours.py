"""Colours of decoded images: modes, transparency, profiles."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from erasestream.pipeline.stages.inference.imaging.decode import decode
from tests.pipeline.stages.inference.pictures import (
    RED,
    gradient,
    pixels_of,
    png_chunk,
    saved,
)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_opaque_pngs_become_rgb(mode: str) -> None:
    """Bilevel, grey and palette pictures look the same."""
    image = gradient(8, 8).convert(mode)
    picture = decode(saved(image))
    assert picture.image.mode == "RGB"
    assert np.array_equal(pixels_of(picture), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pngs_become_rgba(mode: str) -> None:
    image = gradient(8, 8)
    image.putalpha(90)
    picture = decode(saved(image.convert(mode)))
    assert picture.image.mode == "RGBA"
    assert np.array_equal(pixels_of(picture), np.asarray(image.convert(mode).convert("RGBA")))


def test_the_transparent_value_of_a_png_is_transparent() -> None:
    """Of its tRNS chunk, in a palette and in grey."""
    palette = gradient(8, 8).quantize(4)
    for image, entry in ((palette, palette.getpixel((0, 0))), (Image.new("L", (8, 8), 7), 7)):
        picture = decode(saved(image, transparency=entry))
        assert picture.image.mode == "RGBA"
        assert pixels_of(picture)[0, 0, 3] == 0


def test_sixteen_bits_keep_their_brightness() -> None:
    """16-bit grey is scaled, not cut off at 255."""
    values = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    picture = decode(saved(Image.fromarray(values)))
    assert np.array_equal(pixels_of(picture)[..., 0], values >> 8)
    marked = decode(saved(Image.fromarray(values), transparency=1000))
    assert pixels_of(marked)[0, 1, 3] == 0
    assert pixels_of(marked)[0, 2, 3] == 255


def test_cmyk_becomes_rgb() -> None:
    """A JPEG for printing has the colours that a browser shows."""
    picture = decode(saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels_of(picture) - np.array(RED)).max() < 12


def raw_png(bits: int, colour: int, row: bytes, transparent: bytes, width: int) -> bytes:
    """Return a PNG of one row, with its transparent value."""
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    rows = zlib.compress(b"\0" + row)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, content)
        for kind, content in (
            (b"IHDR", header), (b"tRNS", transparent), (b"IDAT", rows), (b"IEND", b"")
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bits", "row", "values"),
    [
        (1, b"\x40", [0, 255]),
        (2, b"\x10", [0, 85]),
        (4, b"\x0d", [0, 221]),
        (8, b"\x07\xc8", [7, 200]),
        (16, b"\x00\x07\x80\x01", [0, 128]),
    ],
)
def test_the_transparent_grey_of_every_depth(bits: int, row: bytes, values: list[int]) -> None:
    """The second pixel has the transparent value, the first has not."""
    whole = int.from_bytes(row) >> (len(row) * 8 - 2 * bits)
    second = whole & (2**bits - 1)
    seen = pixels_of(decode(raw_png(bits, 0, row, struct.pack(">H", second), 2)))
    assert seen[0, :, 3].tolist() == [255, 0]
    assert seen[0, :, 0].tolist() == values


def test_the_transparent_colour_of_sixteen_bits() -> None:
    """Compared by the upper 8 bits of each value."""
    colours = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x1334, 0x5678, 0x9ABC)
    seen = pixels_of(decode(raw_png(16, 2, colours, colours[:6], 2)))
    assert seen[0, :, 3].tolist() == [0, 255]


def test_a_profile_is_converted_to_srgb() -> None:
    """A profile with red and blue swapped swaps them in the picture."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = srgb.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    swapped = named.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    for image in (Image.new("RGB", (8, 8), RED), Image.new("RGBA", (8, 8), (*RED, 90))):
        seen = pixels_of(decode(saved(image, icc_profile=swapped)))
        assert np.abs(seen[0, 0, :3] - RED[::-1]).max() <= 2
        assert (seen[..., 3:] == 90).all()
        assert np.array_equal(pixels_of(decode(saved(image, icc_profile=srgb))), np.asarray(image))


def test_a_profile_is_judged_by_its_curve_and_not_by_its_name() -> None:
    """Linear profiles are called sRGB as well; their middle grey is brighter in sRGB."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    linear = bytearray(srgb)
    tags = {bytes(srgb[at : at + 4]): at for at in range(132, 132 + 12 * srgb[131], 12)}
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        at = int.from_bytes(srgb[tags[tag] + 4 : tags[tag] + 8])
        linear[at : at + 12] = b"curv" + bytes(8)  # no entries: the identity
    assert ImageCms.ImageCmsProfile(io.BytesIO(bytes(linear))).profile.profile_description == (
        "sRGB built-in"
    )
    image = Image.new("RGB", (8, 8), (128, 128, 128))
    assert pixels_of(decode(saved(image, icc_profile=bytes(linear))))[0, 0, 0] == 188
    assert pixels_of(decode(saved(image, icc_profile=srgb)))[0, 0, 0] == 128


def test_a_long_profile_of_a_png_is_used() -> None:
    """Printer profiles are longer than Pillow accepts in a PNG; our limit is higher."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    long = (3_000_000).to_bytes(4) + swapped[4:] + bytes(3_000_000 - len(swapped))
    image = Image.new("RGB", (8, 8), RED)
    seen = pixels_of(decode(saved(image, icc_profile=long)))
    assert np.abs(seen[0, 0] - RED[::-1]).max() <= 2


def test_an_unusable_profile_is_ignored() -> None:
    """Garbage, a profile for other channels, or one of absurd length."""
    source = Image.new("RGB", (8, 8), RED)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"garbage" * 40, lab, bytes(5_000_000)):
        data = saved(source, "WEBP", icc_profile=profile, lossless=True)
        assert np.array_equal(pixels_of(decode(data)), np.asarray(source))
