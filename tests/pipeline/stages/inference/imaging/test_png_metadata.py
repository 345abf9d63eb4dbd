"""Notes beside the pixels of a PNG: bounded, and harmless if they are damaged."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.schemas.errors import Code, InvalidImage
from tests.pipeline.stages.inference.pictures import (
    gradient,
    pixels_of,
    png_chunk,
    saved,
)

NOTES = {
    b"pHYs": struct.pack(">IIB", 2835, 2835, 1),
    b"tIME": b"\x07\xea\1\1\0\0\0",
    b"gAMA": (45_455).to_bytes(4),
    b"cHRM": bytes(32),
    b"sRGB": b"\0",
    b"iCCP": b"name\0\0" + zlib.compress(b"profile"),
    b"cICP": b"\1\x0d\0\1",
    b"eXIf": b"MM\0*\0\0\0\x08\0\0",
    b"bKGD": bytes(6),
    b"sBIT": b"\x08\x08\x08",
    b"tRNS": b"\0\1\0\1\0\1",
    b"acTL": struct.pack(">II", 1, 0),
    b"hIST": bytes(8),
    b"sPLT": b"name\0\x08",
    b"tEXt": b"Comment\0text",
    b"zTXt": b"Comment\0\0" + zlib.compress(b"text"),
    b"iTXt": b"Comment\0\0\0\0\0text",
    b"prVt": b"private",
    b"a1 \0": b"no name",
}


def with_chunks(*chunks: bytes, image: Image.Image | None = None) -> bytes:
    """Return a PNG with these chunks after its header."""
    data = saved(image or gradient())
    return data[:33] + b"".join(chunks) + data[33:]


def packed(text: bytes) -> bytes:
    """Return a compression method (there is one) and the compressed text."""
    return b"\0" + zlib.compress(text)


def code_of(data: bytes) -> Code:
    with pytest.raises(InvalidImage) as refused:
        decode(data)
    return refused.value.code


def wrong_checksum(kind: bytes, content: bytes) -> bytes:
    return png_chunk(kind, content)[:-1] + b"?"


def wrong_length(kind: bytes, content: bytes, claimed: int) -> bytes:
    return struct.pack(">I", claimed) + png_chunk(kind, content)[4:]


def is_whole(data: bytes) -> bool:
    seen = decode(data).image.convert("RGBA")
    return np.array_equal(np.asarray(seen), np.asarray(gradient().convert("RGBA")))


@pytest.mark.parametrize("kind", NOTES)
def test_a_damaged_note_does_not_harm_the_picture(kind: bytes) -> None:
    """Whatever is wrong with it, before or after the pixels."""
    content = NOTES[kind]
    length = len(content)
    damaged = (
        wrong_checksum(kind, content),
        png_chunk(kind, b""),
        png_chunk(kind, content[:-1]),
        png_chunk(kind, content + bytes(20)),
        *(wrong_length(kind, content, claimed) for claimed in (0, length + 1, length + 30, 2**31)),
    )
    whole = saved(gradient())
    for chunk in damaged:
        assert is_whole(with_chunks(chunk, chunk))
        assert is_whole(whole[:-12] + chunk + whole[-12:])


def test_bytes_between_chunks_and_behind_the_end_are_passed_over() -> None:
    data = saved(gradient())
    assert is_whole(data[:33] + b"junk junk" + data[33:])
    assert is_whole(data + b"junk" * 50)


def test_a_file_without_its_end_is_shown_if_its_pixels_are_whole() -> None:
    assert is_whole(saved(gradient())[:-12])


def test_pixels_in_several_places_are_joined() -> None:
    """Programs put notes between the chunks of pixels, which is not allowed."""
    data = saved(gradient())
    begin, end = data.index(b"IDAT") + 4, data.index(b"IEND") - 8
    content = data[begin:end]
    halves = (png_chunk(b"IDAT", content[:100]), png_chunk(b"IDAT", content[100:]))
    assert is_whole(data[: begin - 8] + (png_chunk(b"tIME", bytes(7))).join(halves) + data[-12:])


@pytest.mark.parametrize("place", ["header", "palette", "no palette", "empty palette", "pixels"])
def test_damage_of_the_picture_is_refused(place: str) -> None:
    image = gradient().quantize(16) if "palette" in place else gradient()
    data = bytearray(saved(image))
    palette, pixels = data.find(b"PLTE"), data.index(b"IDAT")
    match place:
        case "header":
            data[20] ^= 1
        case "palette":
            data[palette + 10] ^= 1
        case "no palette":
            del data[palette - 4 : pixels - 4]
        case "empty palette":
            data[palette - 4 : pixels - 4] = png_chunk(b"PLTE", b"")
        case _:
            data[pixels + 30] ^= 1
    assert code_of(bytes(data)) is Code.CORRUPT


def test_a_palette_that_no_pixel_needs_may_be_damaged() -> None:
    """Beside colours it is a suggestion only."""
    assert is_whole(with_chunks(wrong_checksum(b"PLTE", bytes(30))))


def test_the_png_of_apples_tools_is_another_format() -> None:
    data = saved(gradient())
    assert code_of(data[:8] + png_chunk(b"CgBI", bytes(4)) + data[8:]) is Code.UNSUPPORTED_FORMAT


def test_the_first_transparent_value_in_its_place_counts() -> None:
    """Values have as many bits as those of the picture."""
    image = Image.new("L", (2, 1), 7)
    image.putpixel((1, 0), 9)
    seven, nine = png_chunk(b"tRNS", b"\1\7"), png_chunk(b"tRNS", b"\0\x09")
    assert pixels_of(decode(with_chunks(seven, nine, image=image)))[0, :, 3].tolist() == [0, 255]
    after = saved(image)
    assert decode(after[:-12] + seven + after[-12:]).image.mode == "RGB"
    damaged = wrong_checksum(b"tRNS", b"\0\7")
    assert decode(with_chunks(damaged, image=image)).image.mode == "RGB"


def test_a_frame_count_without_frames_is_no_animation() -> None:
    assert is_whole(with_chunks(png_chunk(b"acTL", struct.pack(">II", 3, 0))))


@pytest.mark.parametrize("name", [b"transparency", b"icc_profile", b"gamma", b"exif"])
def test_text_is_never_taken_for_something_else(name: bytes) -> None:
    """Pillow keeps texts beside what other chunks say, under the names that programs gave them."""
    assert is_whole(with_chunks(png_chunk(b"tEXt", name + b"\0ignored")))


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"Comment\0" + packed(bytes(3_000_000))),
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        png_chunk(b"zTXt", b"Raw profile type exif\0" + packed(bytes(3_000_000))),
        png_chunk(b"iTXt", b"Raw profile type exif\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        png_chunk(b"tEXt", b"Comment\0" + bytes(3_000_000)),
        png_chunk(b"iCCP", b"long\0" + packed(bytes(5_000_000))),
        png_chunk(b"iCCP", b"no profile"),
    ],
    ids=["text", "international", "exif", "exif in utf-8", "plain", "profile", "nothing"],
)
def test_long_metadata_is_dropped(chunk: bytes) -> None:
    """A picture is not refused for a long editing history, or a long profile."""
    assert is_whole(with_chunks(chunk, chunk))


@pytest.mark.parametrize("keyword", [b"Comment", b"Raw profile type exif"])
def test_bombs_of_text_get_no_memory(keyword: bytes) -> None:
    """However many there are: 64 of them would take a gigabyte."""
    bomb = png_chunk(b"zTXt", keyword + b"\0" + packed(bytes(16 << 20)))
    data = with_chunks(*[bomb] * 64)
    tracemalloc.start()
    try:
        assert is_whole(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt", b"eXIf"])
def test_orientation_in_exif_is_applied(kind: bytes) -> None:
    """Whether EXIF is in its chunk, or in the text that old programs write."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    raw = f"\nexif\n{len(exif.tobytes())}\n{exif.tobytes().hex()}\n".encode()
    content = {
        b"zTXt": b"Raw profile type exif\0" + packed(raw),
        b"iTXt": b"Raw profile type exif\0\1\0\0\0" + zlib.compress(raw),
        b"tEXt": b"Raw profile type exif\0" + raw,
        b"eXIf": exif.tobytes()[6:],
    }[kind]
    assert decode(with_chunks(png_chunk(kind, content))).size == (64, 96)
