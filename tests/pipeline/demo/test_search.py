"""The search for pictures: finds what is there, wherever it stands."""

import os
from pathlib import Path

import pytest

from erasestream.pipeline.demo.plaintext_search import HEAD_BYTES, named, pieces, search

IMAGE = os.urandom(2000)


def test_clean_folder_has_nothing(tmp_path: Path) -> None:
    """Other bytes are not found; what was looked through is counted."""
    (tmp_path / "one").write_bytes(os.urandom(3000))
    (tmp_path / "two").write_bytes(os.urandom(1000))
    found = search(tmp_path, named([("photo", IMAGE)]))
    assert (found.files, found.size, found.wanted, found.found) == (2, 4000, 3, ())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_piece_is_found(tmp_path: Path, number: int) -> None:
    """A piece in the midst of another file, deep in the folder, is found and named."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "object").write_bytes(b"x" * 999 + pieces(IMAGE)[number - 1] + b"y" * 999)
    found = search(tmp_path, named([("photo", IMAGE)]))
    assert found.found == (f"photo, piece {number}",)


def test_whole_picture_gives_all_pieces_once(tmp_path: Path) -> None:
    """Two copies of a picture are one finding for each piece."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(IMAGE)
    assert len(search(tmp_path, named([("photo", IMAGE)])).found) == 3


def test_name_in_a_path_is_found(tmp_path: Path) -> None:
    """An account that stands in the name of a folder is found, even if all files are empty."""
    (tmp_path / "acct-4711").mkdir()
    (tmp_path / "acct-4711" / "object").write_bytes(b"")
    assert search(tmp_path, {"account": b"acct-4711"}).found == ("account",)


def test_tiny_image_is_sought_by_its_first_bytes() -> None:
    """An image that is too short for later pieces is sought all the same."""
    assert pieces(IMAGE[:80]) == [IMAGE[:HEAD_BYTES]]
