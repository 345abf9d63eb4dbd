"""The photos that the demo sends: packaged ones, without a network, or those of a folder."""

import socket
from pathlib import Path

import pytest

from erasestream.pipeline.demo.photos import MAX_PHOTOS, PACKAGED, packaged_photos, photos_of
from erasestream.pipeline.demo.scenario import (
    NAMESAKE,
    NAMESAKE_PHOTOS,
    OPTED_IN,
    SENDERS,
    orders,
)
from erasestream.schemas.errors import Refused
from tests.pipeline.demo.sample_observations import picture


def test_packaged_photos_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    photos = packaged_photos()
    assert tuple(photo.name for photo in photos) == PACKAGED
    assert {photo.content_type for photo in photos} == {"image/png", "image/jpeg"}
    assert all(len(photo.data) > 100_000 for photo in photos)


def test_the_images_of_a_folder_are_sorted_by_name(tmp_path: Path) -> None:
    """Other files are skipped and reported; folders are ignored."""
    (tmp_path / "b.png").write_bytes(picture())
    (tmp_path / "a.bin").write_bytes(picture())
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    lines: list[str] = []
    assert [photo.name for photo in photos_of(tmp_path, lines.append)] == ["a.bin", "b.png"]
    assert [line.split()[1] for line in lines] == ["empty.jpg", "notes.txt"]


def test_photos_beyond_the_limit_are_skipped_and_reported(tmp_path: Path) -> None:
    for number in range(MAX_PHOTOS + 1):
        (tmp_path / f"{number}.png").write_bytes(picture())
    lines: list[str] = []
    assert len(photos_of(tmp_path, lines.append)) == MAX_PHOTOS
    assert lines == [f"{MAX_PHOTOS + 1} photos found, the first {MAX_PHOTOS} are used"]


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_without_images_is_refused_naming_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match=str(tmp_path)):
        photos_of(tmp_path / name, print)


def test_every_photo_is_sent_for_both_accounts_and_some_for_the_namesake(tmp_path: Path) -> None:
    """Each upload has its own reference; the namesake has the id of the account that opted in."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(shade=number))
    planned = list(orders(photos_of(tmp_path, print)))
    counts = {sender: sum(order.sender == sender for order in planned) for sender in SENDERS}
    assert list(counts.values()) == [3, 3, NAMESAKE_PHOTOS]
    assert len({order.reference for order in planned}) == len(planned)
    assert NAMESAKE.account == OPTED_IN.account
    assert NAMESAKE.lane != OPTED_IN.lane
