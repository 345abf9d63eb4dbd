"""Colours of PNG: what a browser shows.

The values of `SHOWN` are those of Chromium 156 on a display of sRGB (measured through a canvas).
"""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from erasestream.pipeline.stages.inference.imaging.decode import decode
from tests.pipeline.stages.inference.pictures import pixels_of, png_chunk, saved

LEVELS = 1
"""Largest difference to the browser."""
COLOURS = [(51,) * 3, (153,) * 3, (204, 51, 51), (51, 204, 102), (102, 153, 255), (255, 204, 153)]

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
WARM = (0.3457, 0.3585, *SRGB[2:])


def gamma(value: int) -> bytes:
    return png_chunk(b"gAMA", value.to_bytes(4))


def corners(values: tuple[float, ...]) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values)))


def codes(*values: int) -> bytes:
    return png_chunk(b"cICP", bytes(values))


def brightest(light: int) -> bytes:
    return png_chunk(b"cLLI", struct.pack(">II", light * 10_000, 0))


def display(light: int) -> bytes:
    return png_chunk(b"mDCV", bytes(16) + struct.pack(">II", light * 10_000, 0))


def profile(content: bytes) -> bytes:
    return png_chunk(b"iCCP", b"name\0\0" + zlib.compress(content))


def linear_profile() -> bytes:
    """Return a profile with the primaries of sRGB and no curve."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for entry in range(132, 132 + 12 * content[131], 12):
        if content[entry + 1 : entry + 4] == b"TRC":
            at = int.from_bytes(content[entry + 4 : entry + 8])
            content[at : at + 12] = b"curv" + bytes(8)
    return bytes(content)


def with_notes(image: Image.Image, *notes: bytes) -> bytes:
    """Return a PNG with these chunks after its header."""
    data = saved(image)
    return data[:33] + b"".join(notes) + data[33:]


def picture(*colours: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.array([colours], dtype=np.uint8))


def seen(*notes: bytes, image: Image.Image | None = None) -> list[tuple[int, ...]]:
    """Return the colours of a decoded PNG with these chunks."""
    data = with_notes(image or picture(*COLOURS), *notes)
    return [tuple(pixel) for pixel in pixels_of(decode(data))[0]]


SRGB_INTENT = png_chunk(b"sRGB", b"\0")
LINEAR = [
    (124,) * 3,
    (203,) * 3,
    (231, 124, 124),
    (124, 231, 170),
    (170, 203, 255),
    (255, 231, 203),
]

# fmt: off
SHOWN = {
    "gamma 1": ([gamma(100_000)], LINEAR),
    "gamma 1.8": ([gamma(55_555)], [(66,) * 3, (169,) * 3, (214, 66, 66), (66, 214, 121), (121, 169, 255), (255, 214, 169)]),  # noqa: E501
    "Display P3": ([gamma(45_455), corners(P3)], [(48,) * 3, (154,) * 3, (224, 14, 36), (0, 209, 88), (85, 156, 255), (255, 203, 146)]),  # noqa: E501
    "Adobe RGB": ([gamma(45_455), corners(ADOBE)], [(48,) * 3, (154,) * 3, (237, 48, 48), (0, 205, 94), (67, 154, 255), (255, 205, 152)]),  # noqa: E501
    "ProPhoto": ([gamma(55_556), corners(PROPHOTO)], [(66,) * 3, (169,) * 3, (255, 0, 63), (0, 233, 97), (0, 178, 255), (255, 203, 160)]),  # noqa: E501
    "another white": ([gamma(45_455), corners(WARM)], [(48,) * 3, (154,) * 3, (214, 50, 52), (0, 205, 107), (91, 154, 252), (255, 206, 158)]),  # noqa: E501
    "cICP of sRGB": ([codes(1, 13, 0, 1)], COLOURS),
    "cICP of linear light": ([codes(1, 8, 0, 1)], LINEAR),
    "cICP of Display P3": ([codes(12, 13, 0, 1)], [(51,) * 3, (153,) * 3, (222, 24, 41), (0, 208, 88), (85, 155, 255), (255, 201, 145)]),  # noqa: E501
    "cICP of NTSC": ([codes(4, 13, 0, 1)], [(51,) * 3, (153,) * 3, (241, 37, 36), (0, 201, 95), (0, 164, 255), (255, 199, 146)]),  # noqa: E501
    "cICP of PAL": ([codes(5, 13, 0, 1)], [(51,) * 3, (153,) * 3, (208, 51, 51), (22, 204, 104), (99, 153, 254), (255, 204, 154)]),  # noqa: E501
    "cICP of film": ([codes(8, 13, 0, 1)], [(51,) * 3, (153,) * 3, (231, 18, 40), (0, 209, 92), (71, 152, 255), (255, 202, 146)]),  # noqa: E501
    "cICP of XYZ": ([codes(10, 13, 0, 1)], [(51,) * 3, (153,) * 3, (255, 0, 75), (0, 255, 44), (0, 193, 255), (255, 123, 149)]),  # noqa: E501
    "cICP of video": ([codes(1, 1, 0, 1)], [(40,) * 3, (147,) * 3, (201, 40, 40), (40, 201, 94), (94, 147, 255), (255, 201, 147)]),  # noqa: E501
    "cICP of gamma 2.2": ([codes(1, 4, 0, 1)], [(48,) * 3, (154,) * 3, (205, 48, 48), (48, 205, 102), (102, 154, 255), (255, 205, 154)]),  # noqa: E501
    "cICP of gamma 2.8": ([codes(1, 5, 0, 1)], [(27,) * 3, (134,) * 3, (193, 27, 27), (27, 193, 78), (78, 134, 255), (255, 193, 134)]),  # noqa: E501
    "cICP of SMPTE 240M": ([codes(1, 7, 0, 1)], [(69,) * 3, (164,) * 3, (210, 69, 69), (69, 210, 117), (117, 164, 255), (255, 210, 164)]),  # noqa: E501
    "cICP of SMPTE 428": ([codes(1, 17, 0, 1)], [(35,) * 3, (146,) * 3, (205, 35, 35), (35, 205, 89), (89, 146, 255), (255, 205, 146)]),  # noqa: E501
    "cICP of BT.2020": ([codes(9, 1, 0, 1)], [(40,) * 3, (147,) * 3, (250, 0, 27), (0, 212, 72), (0, 151, 255), (255, 193, 137)]),  # noqa: E501
    "cICP of PQ": ([codes(9, 16, 0, 1)], [(18,) * 3, (200,) * 3, (255, 0, 0), (0, 255, 0), (0, 37, 255), (255, 65, 0)]),  # noqa: E501
    "PQ up to 400 cd/m2": ([codes(9, 16, 0, 1), brightest(400), display(4000)], [(24,) * 3, (241,) * 3, (255, 0, 0), (0, 255, 0), (0, 37, 255), (255, 65, 0)]),  # noqa: E501
    "PQ for a display of 600 cd/m2": ([codes(9, 16, 0, 1), brightest(0), display(600)], [(22,) * 3, (225,) * 3, (255, 0, 0), (0, 255, 0), (0, 37, 255), (255, 65, 0)]),  # noqa: E501
    "sRGB with a bright display": ([codes(1, 13, 0, 1), display(4000)], COLOURS),
    "PQ with sRGB's primaries": ([codes(1, 16, 0, 1)], [(18,) * 3, (200,) * 3, (255, 8, 8), (6, 255, 41), (12, 46, 255), (255, 132, 53)]),  # noqa: E501
    "cICP of HLG": ([codes(9, 18, 0, 1)], [(31,) * 3, (126,) * 3, (239, 0, 28), (0, 214, 59), (0, 96, 254), (255, 138, 83)]),  # noqa: E501
}
# fmt: on


@pytest.mark.parametrize("name", SHOWN)
def test_colours_are_those_of_a_browser(name: str) -> None:
    notes, shown = SHOWN[name]
    assert np.abs(np.array(seen(*notes)) - shown).max() <= LEVELS


@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        ([SRGB_INTENT, gamma(100_000)], COLOURS),
        ([gamma(100_000), SRGB_INTENT], COLOURS),
        ([gamma(100_000), codes(1, 13, 0, 1)], COLOURS),
        ([profile(linear_profile()), SRGB_INTENT, gamma(45_455)], LINEAR),
        ([profile(linear_profile()), codes(1, 13, 0, 1)], COLOURS),
        ([codes(1, 8, 0, 1), profile(b""), SRGB_INTENT], LINEAR),
        ([profile(b"no profile" * 40), gamma(100_000)], LINEAR),
        ([profile(b"no profile" * 40), SRGB_INTENT, gamma(100_000)], COLOURS),
        ([png_chunk(b"iCCP", b"name\0\0not packed"), gamma(100_000)], LINEAR),
        ([gamma(100_000), gamma(45_455)], LINEAR),
    ],
    ids=[
        "sRGB before gamma", "sRGB after gamma", "cICP over gamma", "profile over sRGB",
        "cICP over profile", "cICP over all", "broken profile, gamma", "broken profile, sRGB",
        "no zlib", "the first of two",
    ],
)  # fmt: skip
def test_the_first_usable_chunk_decides(notes: list[bytes], shown: list[tuple[int, ...]]) -> None:
    """cICP, then iCCP, then sRGB, then gAMA, in whatever order."""
    assert np.abs(np.array(seen(*notes)) - shown).max() <= LEVELS


@pytest.mark.parametrize(
    "notes",
    [
        [gamma(45_455)],
        [gamma(45_455), corners(SRGB)],
        [gamma(43_300)],
        [gamma(47_600)],
        [corners(P3)],
        [gamma(0)],
        [gamma(1)],
        [gamma(2**32 - 1)],
        [gamma(100_000), corners((0,) * 8)],
        [gamma(100_000), corners((0.3127, 0.329, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3))],
        [gamma(100_000), corners((0, 0, *SRGB[2:]))],
        [gamma(100_000), corners((0.9, 0.1, *SRGB[2:]))],
        [gamma(100_000), corners((2.0, 2.0, *SRGB[2:]))],
        [gamma(100_000), png_chunk(b"cHRM", b"\xff" * 32)],
        [png_chunk(b"gAMA", b"\0\1\x86"), png_chunk(b"cHRM", b"")],
        [codes(12, 13, 0, 0)],
        [codes(12, 13, 1, 1)],
        [codes(12, 13, 0, 2)],
        [codes(3, 13, 0, 1)],
        [codes(12, 2, 0, 1)],
        [codes(255, 255, 255, 255)],
        [png_chunk(b"cICP", b"\x0c\x0d\0")],
    ],
)
def test_chunks_without_a_use_change_nothing(notes: list[bytes]) -> None:
    """sRGB, or what no program means: an unknown code, a narrow range, an absurd number."""
    assert seen(*notes) == COLOURS


def test_a_chunk_after_the_pixels_does_not_count() -> None:
    data = saved(picture(*COLOURS))
    late = data[:-12] + gamma(100_000) + codes(12, 13, 0, 1) + data[-12:]
    assert np.array_equal(pixels_of(decode(late))[0], COLOURS)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16"])
def test_every_kind_of_pixels_is_converted(mode: str) -> None:
    """Alpha stays as it is."""
    greys = np.arange(0, 256, 15, dtype=np.uint8)
    image = Image.fromarray(greys[None])
    image = Image.fromarray(greys[None].astype(np.uint16) * 257) if mode == "I;16" else image
    if mode in {"LA", "RGBA"}:
        image.putalpha(90)
    made = pixels_of(decode(with_notes(image.convert(mode), gamma(100_000))))[0]
    light = greys / 255
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(made[:, :3] - shown[:, None]).max() <= LEVELS
    assert (made[:, 3:] == 90).all()
    by_profile = decode(with_notes(image.convert(mode), profile(linear_profile())))
    assert np.abs(pixels_of(by_profile)[0][:, :3] - shown[:, None]).max() <= LEVELS


def test_a_large_picture_is_converted_as_a_small_one() -> None:
    """In strips: its last row is converted once, as its first."""
    rows = np.tile(np.array(COLOURS * 100, dtype=np.uint8), (1001, 1, 1))
    made = pixels_of(decode(with_notes(Image.fromarray(rows), gamma(45_455), corners(P3))))
    assert (made == made[:1]).all()
    assert np.abs(made[0, :6] - SHOWN["Display P3"][1]).max() <= LEVELS
