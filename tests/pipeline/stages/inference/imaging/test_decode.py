"""Decoding what strangers send."""

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from erasestream.pipeline.stages.inference.imaging.decode import Picture, decode
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.models.manifest import Exposure
from erasestream.pipeline.stages.inference.models.preprocessing import to_input
from erasestream.schemas.errors import Code, InvalidImage
from tests.pipeline.stages.inference.pictures import (
    RED,
    gradient,
    jpeg_bomb,
    png_bomb,
    png_chunk,
    saved,
    webp_bomb,
)
from tests.pipeline.stages.inference.tiny_model import TINY

FORMATS = ["JPEG", "PNG", "WEBP"]
MEAN, SCALE = np.array([100.0, 110.0, 120.0]), np.array([50.0, 100.0, 200.0])
SCALED = TINY.model_copy(update={"mean": tuple(MEAN), "scale": tuple(SCALE)})


def pixels(picture: Picture) -> np.ndarray:
    """The picture's values, wide enough to subtract."""
    return np.asarray(picture.image).astype(int)


def refusal(data: bytes, **limits: int) -> Code:
    """The code that these bytes are refused with."""
    with pytest.raises(InvalidImage) as refused:
        decode(data, limits=Limits(**limits))
    return refused.value.code


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_decoded(kind: str) -> None:
    """JPEG, PNG and WebP come out with their size and their colours."""
    picture = decode(saved(gradient(), kind, quality=95))
    assert (picture.width, picture.height, picture.image.mode) == (96, 64, "RGB")
    assert np.abs(pixels(picture) - np.asarray(gradient())).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused_whatever_pillow_could_read(kind: str) -> None:
    """A format that is not offered is never given to a decoder."""
    assert refusal(saved(gradient(), kind)) is Code.UNSUPPORTED_FORMAT


def test_empty_and_foreign_bytes_have_codes_of_their_own() -> None:
    """No bytes, and bytes of no image."""
    assert refusal(b"") is Code.EMPTY
    assert refusal(b"<html>not an image</html>") is Code.UNSUPPORTED_FORMAT


def test_a_file_over_the_limit_is_refused_before_it_is_opened() -> None:
    """The limit is in bytes of the file; one byte decides."""
    data = saved(gradient(), "JPEG")
    assert refusal(data, max_bytes=len(data) - 1) is Code.TOO_LARGE
    assert decode(data, limits=Limits(max_bytes=len(data))).width == 96


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_is_called_truncated(kind: str, share: float) -> None:
    """Whatever part is missing, half a picture is never given back."""
    noise = Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3))
    data = saved(noise, kind, quality=90)
    assert refusal(data[: int(len(data) * share)]) is Code.TRUNCATED


def test_a_damaged_file_is_called_corrupt() -> None:
    """A PNG that is complete, with one byte of its pixels changed."""
    data = bytearray(saved(gradient()))
    data[data.index(b"IDAT") + 30] ^= 0xFF
    assert refusal(bytes(data)) is Code.CORRUPT
    assert refusal(b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0\0\0\0\0") is Code.CORRUPT


@pytest.mark.parametrize("bomb", [png_bomb, jpeg_bomb, webp_bomb])
def test_a_bomb_is_refused_by_its_header(bomb: Callable[[int, int], bytes]) -> None:
    """Small files that declare more pixels than are taken are refused, not decoded."""
    data = bomb(16_000, 16_000)
    assert len(data) < 10_000
    assert refusal(data) is Code.TOO_MANY_PIXELS


def test_the_limit_of_pixels_is_exact() -> None:
    """As many pixels as allowed are taken; one more is not."""
    data = saved(gradient(50, 20))
    assert decode(data, limits=Limits(max_pixels=1000)).width == 50
    assert refusal(data, max_pixels=999) is Code.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    """Several frames are not one photo."""
    frames = [gradient().rotate(90 * turn) for turn in (1, 2)]
    data = saved(gradient(), kind, save_all=True, append_images=frames, duration=50)
    assert refusal(data) is Code.ANIMATED


def test_a_phone_photo_with_a_second_picture_inside_is_its_first_picture() -> None:
    """MPO files (previews, depth or gain maps behind the photo) are JPEGs like others."""
    data = saved(gradient(), "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    assert np.abs(pixels(decode(data)) - np.asarray(gradient())).mean() < 4


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    """A photo taken with a turned camera comes out upright, as EXIF says."""
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
    assert np.abs(pixels(picture) - expected).mean() < 4


def test_a_draft_is_smaller_and_knows_the_size_of_the_photo() -> None:
    """A JPEG that only the model looks at is decoded in part; a turned one as well."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = decode(saved(gradient(960, 640), "JPEG", exif=exif), draft=100)
    assert picture.size == (640, 960)
    assert picture.image.size in ((80, 120), (160, 240))
    assert decode(saved(gradient(960, 640)), draft=100).image.size == (960, 640)


def test_exif_that_makes_no_sense_turns_nothing() -> None:
    """A picture with broken EXIF is still a picture."""
    data = saved(gradient(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(pixels(decode(data)), np.asarray(gradient()))


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_opaque_pngs_become_rgb(mode: str) -> None:
    """Bilevel, grey and palette pictures keep their look."""
    image = gradient(8, 8).convert(mode)
    picture = decode(saved(image))
    assert picture.image.mode == "RGB"
    assert np.array_equal(pixels(picture), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pngs_become_rgba(mode: str) -> None:
    """An alpha channel is kept, and the colours beside it."""
    image = gradient(8, 8)
    image.putalpha(90)
    picture = decode(saved(image.convert(mode)))
    assert picture.image.mode == "RGBA"
    assert np.array_equal(pixels(picture), np.asarray(image.convert(mode).convert("RGBA")))


def test_a_palette_with_a_transparent_entry_is_transparent_there() -> None:
    """Transparency in PNG's tRNS chunk is kept, in palettes, grey and colour."""
    palette = gradient(8, 8).quantize(4)
    for image, entry in ((palette, palette.getpixel((0, 0))), (Image.new("L", (8, 8), 7), 7)):
        picture = decode(saved(image, transparency=entry))
        assert picture.image.mode == "RGBA"
        assert pixels(picture)[0, 0, 3] == 0


def test_sixteen_bits_keep_their_brightness() -> None:
    """16-bit grey is scaled, not cut off at 255."""
    values = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    picture = decode(saved(Image.fromarray(values)))
    assert np.array_equal(pixels(picture)[..., 0], values >> 8)
    marked = decode(saved(Image.fromarray(values), transparency=1000))
    assert pixels(marked)[0, 1, 3] == 0
    assert pixels(marked)[0, 2, 3] == 255


def test_cmyk_becomes_rgb() -> None:
    """A JPEG for printing has the colours that a browser shows."""
    picture = decode(saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels(picture) - np.array(RED)).max() < 12


def test_a_profile_is_converted_to_srgb() -> None:
    """With red and blue swapped in the profile, red and blue are swapped in the picture."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = srgb.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    swapped = named.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    for image in (Image.new("RGB", (8, 8), RED), Image.new("RGBA", (8, 8), (*RED, 90))):
        seen = pixels(decode(saved(image, icc_profile=swapped)))
        assert np.abs(seen[0, 0, :3] - RED[::-1]).max() <= 2
        assert (seen[..., 3:] == 90).all()
        assert np.array_equal(pixels(decode(saved(image, icc_profile=srgb))), np.asarray(image))


def test_a_profile_is_judged_by_its_curve_and_not_by_its_name() -> None:
    """Linear light is called sRGB as well; the middle of it is brighter to the eye."""
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
    assert pixels(decode(saved(image, icc_profile=bytes(linear))))[0, 0, 0] == 188
    assert pixels(decode(saved(image, icc_profile=srgb)))[0, 0, 0] == 128


def with_chunks(*chunks: bytes, image: Image.Image | None = None) -> bytes:
    """A PNG with these chunks behind its header."""
    data = saved(image or gradient())
    return data[:33] + b"".join(chunks) + data[33:]


def packed(text: bytes) -> bytes:
    """A method (there is one) and the text."""
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
def test_what_a_png_says_at_length_is_left_out(chunk: bytes) -> None:
    """A picture is not refused for a history of its editing, or for a profile of that length."""
    picture = decode(with_chunks(chunk, chunk))
    assert np.array_equal(pixels(picture), np.asarray(gradient()))


def test_bombs_of_text_get_no_memory() -> None:
    """However many there are: 64 of them would be a gigabyte."""
    bomb = png_chunk(b"zTXt", b"XML:com.adobe.xmp\0" + packed(bytes(16 << 20)))
    data = with_chunks(*[bomb] * 64)
    tracemalloc.start()
    try:
        assert np.array_equal(pixels(decode(data)), np.asarray(gradient()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_long_profile_of_a_png_is_used() -> None:
    """Those of printers are longer than Pillow takes from a PNG; the bound is every format's."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    long = (3_000_000).to_bytes(4) + swapped[4:] + bytes(3_000_000 - len(swapped))
    image = Image.new("RGB", (8, 8), RED)
    seen = pixels(decode(saved(image, icc_profile=long)))
    assert np.abs(seen[0, 0] - RED[::-1]).max() <= 2


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_text_that_says_which_way_is_up_is_read(kind: bytes) -> None:
    """As Pillow reads it: in XMP, or as an old program's copy of EXIF."""
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


def raw_png(bits: int, colour: int, row: bytes, transparent: bytes, width: int) -> bytes:
    """A PNG of one row, with the value that is transparent."""
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
    """The second pixel's value is, and the first one's is not."""
    whole = int.from_bytes(row) >> (len(row) * 8 - 2 * bits)
    second = whole & (2**bits - 1)
    seen = pixels(decode(raw_png(bits, 0, row, struct.pack(">H", second), 2)))
    assert seen[0, :, 3].tolist() == [255, 0]
    assert seen[0, :, 0].tolist() == values


def test_the_transparent_colour_of_sixteen_bits() -> None:
    """Judged by the 8 bits that are left of each value."""
    colours = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x1334, 0x5678, 0x9ABC)
    seen = pixels(decode(raw_png(16, 2, colours, colours[:6], 2)))
    assert seen[0, :, 3].tolist() == [0, 255]


def test_a_profile_that_says_nothing_about_the_picture_is_ignored() -> None:
    """Garbage, a profile for other channels, or one of absurd length."""
    source = Image.new("RGB", (8, 8), RED)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"garbage" * 40, lab, bytes(5_000_000)):
        data = saved(source, "WEBP", icc_profile=profile, lossless=True)
        assert np.array_equal(pixels(decode(data)), np.asarray(source))


def test_the_model_sees_scaled_values_and_no_hidden_colours() -> None:
    """(value - mean) / scale in NCHW; what is transparent is the mean, whatever lies below."""
    seen = to_input(decode(saved(Image.new("RGB", (7, 5), RED))), SCALED)
    assert seen.shape == (1, 3, 64, 64)
    assert seen.dtype == np.float32
    assert np.allclose(seen[0, :, 0, 0], [(200 - 100) / 50, (30 - 110) / 100, (40 - 120) / 200])
    hidden = decode(saved(Image.new("RGBA", (7, 5), (*RED, 0))))
    assert np.allclose(to_input(hidden, SCALED), 0)


def test_an_underexposed_photo_is_seen_as_any_other() -> None:
    """If the manifest asks for it, the brightest value counts as white; black stays black."""
    stretched = SCALED.model_copy(update={"exposure": Exposure.BRIGHTEST_IS_WHITE})
    dark = decode(saved(Image.new("RGB", (7, 5), tuple(value // 2 for value in RED))))
    bright = np.asarray([value * 255 / 200 for value in RED])
    assert np.allclose(to_input(dark, stretched)[0, :, 0, 0], (bright - MEAN) / SCALE)
    black = decode(saved(Image.new("RGB", (7, 5))))
    assert np.allclose(to_input(black, stretched)[0, :, 0, 0], -MEAN / SCALE)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(FORMATS), data=st.data())
def test_mutated_files_are_decoded_or_refused(kind: str, data: st.DataObject) -> None:
    """Whatever bytes are changed, the answer is a picture or a refusal with a code."""
    file = bytearray(saved(gradient(24, 16), kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(file), limits=Limits(max_pixels=1_000_000))
    except InvalidImage:
        return
    assert picture.image.mode in {"RGB", "RGBA"}
