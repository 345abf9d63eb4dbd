"""The size that an image declares."""

import io
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from erasestream.pipeline.gateway.image_size import NO_SIZE, size_of


def zipped(*files: bytes) -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        for number, data in enumerate(files):
            archive.writestr(f"{number}.jpg", data)
    return file.getvalue()


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (31, 17)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        encoded("PNG"),
        encoded("JPEG"),
        encoded("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(999)),
        encoded("WEBP"),
        encoded("WEBP", lossless=True),
        encoded("WEBP", "RGBA"),
        encoded("WEBP", exif=b"Exif\0\0" + bytes(99)),
        zipped(encoded("JPEG"), b"another"),
    ],
)
def test_the_size_is_that_of_the_image(data: bytes) -> None:
    assert size_of(data) == (31, 17)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0" * 9999, zipped(zipped(b""))]
)
def test_other_files_have_no_size(data: bytes) -> None:
    assert size_of(data) == NO_SIZE


@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFFxxxxWEBP", b"PK\3\4"]),
    st.binary(),
)
def test_no_header_raises(start: bytes, rest: bytes) -> None:
    assert size_of(start + rest).pixels >= 0
