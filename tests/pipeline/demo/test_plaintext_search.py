"""The search for plaintext: finds pieces of pictures and names wherever they are."""

import os
from pathlib import Path

import pytest

from erasestream.pipeline.demo.plaintext_search import (
    HEAD_BYTES,
    PIECE_BYTES,
    named_pieces,
    pieces,
    search,
)

IMAGE = os.urandom(2000)


def test_a_folder_without_plaintext_gives_no_finding(tmp_path: Path) -> None:
    """The searched files and bytes are counted."""
    (tmp_path / "one").write_bytes(os.urandom(3000))
    (tmp_path / "two").write_bytes(os.urandom(1000))
    found = search(tmp_path, named_pieces([("photo", IMAGE)]))
    assert (found.files, found.size, found.wanted, found.found) == (2, 4000, 3, ())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_piece_is_found(tmp_path: Path, number: int) -> None:
    """Inside another file, deep in the folder."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "object").write_bytes(b"x" * 999 + pieces(IMAGE)[number - 1] + b"y" * 999)
    found = search(tmp_path, named_pieces([("photo", IMAGE)]))
    assert found.found == (f"photo, piece {number}",)


def test_bytes_between_holes_are_found(tmp_path: Path) -> None:
    """Only what was written is read."""
    with (tmp_path / "index").open("wb") as file:
        file.seek(8_000_000)
        file.write(pieces(IMAGE)[0])
        file.truncate(80_000_000)
    found = search(tmp_path, named_pieces([("photo", IMAGE)]))
    assert found.found == ("photo, piece 1",)
    assert found.size < 1_000_000


def test_two_copies_of_a_picture_give_one_finding_for_each_piece(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(IMAGE)
    assert len(search(tmp_path, named_pieces([("photo", IMAGE)])).found) == 3


def test_a_name_in_a_path_is_found(tmp_path: Path) -> None:
    """Even if all files are empty."""
    (tmp_path / "acct-4711").mkdir()
    (tmp_path / "acct-4711" / "object").write_bytes(b"")
    assert search(tmp_path, {"account": b"acct-4711"}).found == ("account",)


def test_a_row_of_zeros_in_an_image_is_not_searched_for() -> None:
    """The compressed image before it is: all files of an index have zeros."""
    assert pieces(IMAGE + bytes(4 * PIECE_BYTES))[2] == IMAGE[-PIECE_BYTES:]
    assert pieces(IMAGE[:HEAD_BYTES] + bytes(2000)) == [IMAGE[:HEAD_BYTES]]


def test_an_image_too_short_for_later_pieces_is_searched_by_its_first_bytes() -> None:
    assert pieces(IMAGE[:80]) == [IMAGE[:HEAD_BYTES]]
