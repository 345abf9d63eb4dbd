"""Notes beside the pixels of a JPEG: harmless if they are damaged; and JPEGs of other kinds."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.schemas.errors import Code, InvalidImage
from tests.pipeline.stages.inference.pictures import RED, gradient, pixels_of, saved

PLAIN = saved(gradient(), "JPEG", quality=95)
PREVIEW = saved(gradient(40, 30), "JPEG")


def exif_of(orientation: int, *, preview: bytes = b"") -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes() + preview


NOTES = {
    "JFIF": (0xE0, b"JFIF\0\1\1\1\0\x48\0\x48\0\0"),
    "JFXX": (0xE0, b"JFXX\0\x10" + PREVIEW),
    "EXIF": (0xE1, exif_of(1, preview=PREVIEW)),
    "XMP": (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
    "ICC": (0xE2, b"ICC_PROFILE\0\1\1profile"),
    "MPF": (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\0"),
    "FlashPix": (0xE2, b"FPXR\0\0"),
    "Photoshop": (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10" + bytes(16)),
    "Adobe": (0xEE, b"Adobe\0\x64\0\0\0\0\1"),
    "comment": (0xFE, b"comment"),
    "nothing known": (0xEB, b"\0\xff\0"),
}


def segment(marker: int, content: bytes, claimed: int | None = None) -> bytes:
    length = len(content) + 2 if claimed is None else claimed
    return struct.pack(">BBH", 0xFF, marker, length) + content


def with_notes(*notes: bytes, image: bytes = PLAIN) -> bytes:
    """Return a JPEG with these segments at its begin, and no other notes."""
    return image[:2] + b"".join(notes) + image[image.index(b"\xff\xdb") :]


def is_whole(data: bytes) -> bool:
    return np.array_equal(pixels_of(decode(data)), pixels_of(decode(PLAIN)))


def code_of(data: bytes) -> Code:
    with pytest.raises(InvalidImage) as refused:
        decode(data)
    return refused.value.code


@pytest.mark.parametrize("name", NOTES)
def test_a_note_that_ends_too_early_does_not_harm_the_picture(name: str) -> None:
    """Wherever it ends."""
    marker, content = NOTES[name]
    for length in range(min(len(content), 40)):
        assert is_whole(with_notes(segment(marker, content[:length])))


@pytest.mark.parametrize("name", NOTES)
def test_a_note_with_a_wrong_length_does_not_harm_the_picture(name: str) -> None:
    """Its preview is not taken for the picture either."""
    marker, content = NOTES[name]
    whole = len(content) + 2
    for claimed in (0, 1, 2, 3, whole - 1, whole + 1, whole + 30, 65_535):
        assert is_whole(with_notes(segment(marker, content, claimed)))


def test_bytes_between_segments_are_passed_over() -> None:
    jfif = segment(*NOTES["JFIF"])
    assert is_whole(with_notes(jfif, b"junk", jfif, b"\xff\xff\xff"))
    assert is_whole(with_notes(b"\xff\x01", jfif, b"\xff\0\xff\x02\0", b"\xff\xd0"))


def swapped_profile() -> bytes:
    """Return a profile that swaps red and blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        ([(1, 2), (2, 2)], True),
        ([(2, 2), (1, 2)], True),
        ([(1, 2)], False),
        ([(1, 2), (1, 2)], False),
        ([(1, 2), (2, 2), (2, 2)], False),
        ([(0, 2), (1, 2)], False),
        ([(1, 2), (2, 3)], False),
        ([(1, 255), (255, 255)], False),
    ],
)
def test_a_profile_counts_if_it_has_all_parts_once(
    parts: list[tuple[int, int]], *, counts: bool
) -> None:
    red = saved(Image.new("RGB", (16, 16), RED), "JPEG", quality=95)
    profile = swapped_profile()
    middle = len(profile) // 2
    notes = [
        segment(
            0xE2,
            b"ICC_PROFILE\0"
            + bytes(part)
            + (profile[:middle] if part[0] <= 1 else profile[middle:]),
        )
        for part in parts
    ]
    seen = pixels_of(decode(with_notes(*notes, image=red)))[0, 0]
    assert np.abs(seen - (RED[::-1] if counts else RED)).max() < 6
    short = segment(0xE2, b"ICC_PROFILE\0\1")
    assert np.array_equal(pixels_of(decode(with_notes(short, *notes, image=red)))[0, 0], seen)


def test_the_first_exif_decides_the_orientation() -> None:
    notes = [segment(0xE1, exif_of(orientation)) for orientation in (6, 3)]
    assert decode(with_notes(*notes)).size == (64, 96)
    assert decode(with_notes(segment(0xE1, b"Exif\0\0MM\0*\xff\xff"))).size == (96, 64)


def test_notes_that_decide_the_colours_are_kept() -> None:
    """JPEGs of RGB and CMYK are known by Adobe's note."""
    assert is_whole(with_notes(segment(*NOTES["Adobe"])))
    rgb = saved(gradient(), "JPEG", quality=95, keep_rgb=True)
    assert np.abs(pixels_of(decode(rgb)) - np.asarray(gradient())).mean() < 4
    inverted = saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(pixels_of(decode(inverted)) - RED).max() < 12


def frame(marker: int, bits: int, channels: int = 3, lines: int = 64) -> bytes:
    """Return a JPEG with another frame header."""
    at = PLAIN.index(b"\xff\xc0")
    content = struct.pack(">BHHB", bits, lines, 96, channels)
    content += b"".join(bytes((number, 0x11, 0)) for number in range(1, channels + 1))
    return PLAIN[:at] + segment(marker, content) + PLAIN[at + 19 :]


@pytest.mark.parametrize(
    "data",
    [
        frame(0xC1, 12),
        frame(0xC2, 12, channels=1),
        frame(0xC3, 16),
        frame(0xC3, 12, channels=1),
        frame(0xF7, 8),
        frame(0xF7, 16, channels=1),
        frame(0xC5, 8),
        frame(0xCB, 8),
        frame(0xC0, 8, channels=2),
        frame(0xC0, 8, lines=0)[:-2] + b"\xff\xdc\0\4\0\x40\xff\xd9",
    ],
    ids=[
        "12 bits", "12 bits, progressive", "lossless, 16 bits", "lossless, 12 bits", "JPEG-LS",
        "JPEG-LS, 16 bits", "hierarchical", "lossless, arithmetic", "two channels", "late lines",
    ],
)  # fmt: skip
def test_jpegs_of_other_kinds_are_to_be_converted(data: bytes) -> None:
    """Not saved again, or sent again: they are not damaged."""
    assert code_of(data) is Code.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("table", [b"\xff\xdb", b"\xff\xc0", b"\xff\xda"])
def test_damage_of_tables_frame_and_scans_is_refused(table: bytes) -> None:
    data = bytearray(PLAIN)
    at = data.index(table)
    data[at + 2 : at + 4] = b"\0\7"
    assert code_of(bytes(data)) in {Code.CORRUPT, Code.TRUNCATED}


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff" * 300_000,
        b"\xff\xe1" * 100_000,
        b"\xff\xd8\xff" * 100_000,
        b"\xff\xdd\0\4\0\0" * 100_000 + PLAIN[2:],
    ],
    ids=["fill bytes", "segments", "starts", "tables"],
)
def test_noise_is_read_once(noise: bytes) -> None:
    assert code_of(b"\xff\xd8" + noise + b"\0") is Code.TRUNCATED
