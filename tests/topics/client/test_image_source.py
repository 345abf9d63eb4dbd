"""Images come as bytes, by path or from a binary file; anything else is refused in a sentence."""

import io
import os
from pathlib import Path

import pytest

from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.topics.client.image_source import ImageSource, read_image
from tests.topics.client.uploads import PNG


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    return path


def test_an_image_may_be_bytes_a_path_or_a_file(photo: Path) -> None:
    written = io.BytesIO()
    written.write(PNG)  # its position is at the end, as after `Image.save`
    with photo.open("rb") as file, photo.open("rb", buffering=0) as raw:
        sources: list[ImageSource] = [
            PNG, bytearray(PNG), memoryview(PNG), photo, str(photo), io.BytesIO(PNG), written,
            file, raw,
        ]  # fmt: skip
        for source in sources:
            read = read_image(source)
            assert (type(read), read) == (bytes, PNG)


@pytest.mark.parametrize("source", [None, 17, object(), [1], io.StringIO("text"), {"a": 1}])
def test_another_type_is_refused(source: object) -> None:
    with pytest.raises(InvalidImage, match=f"is needed, not {type(source).__name__}") as refused:
        read_image(source)  # type: ignore[arg-type]
    assert refused.value.code is Code.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("text", ["nowhere/secret-name.png", "iVBORw0KGgo" * 1000, "a\0b"])
def test_a_path_that_is_none_is_refused_without_it(text: str) -> None:
    with pytest.raises(InvalidImage) as refused:
        read_image(text)
    assert refused.value.code in {Code.MISSING_FILE, Code.UNREADABLE_FILE}
    assert text[:6] not in str(refused.value)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(InvalidImage) as refused:
            read_image(path)
        assert refused.value.code is Code.UNREADABLE_FILE


def test_a_closed_file_is_refused(photo: Path) -> None:
    with photo.open("rb") as file, io.BytesIO(PNG) as memory:
        pass
    for closed in file, memory:
        with pytest.raises(InvalidImage) as refused:
            read_image(closed)
        assert refused.value.code is Code.UNREADABLE_FILE


def test_no_more_is_read_than_one_upload_may_have(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_UPLOAD_BYTES + 2)
    for source in (large, bytearray(MAX_UPLOAD_BYTES + 2)):
        with pytest.raises(InvalidImage) as refused:
            read_image(source)
        assert refused.value.code is Code.TOO_LARGE
    with large.open("rb") as opened:
        assert len(read_image(opened)) == MAX_UPLOAD_BYTES + 1
