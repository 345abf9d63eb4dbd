"""What the demo sends: packaged photos without a network, or a folder of one's own."""

import socket
from pathlib import Path

import pytest

from erasestream.pipeline.demo.photos import MOST, PACKAGED, packaged_photos, photos_of
from erasestream.pipeline.demo.scenario import (
    NAMESAKE,
    NAMESAKE_PHOTOS,
    OPTED_IN,
    SENDERS,
    orders,
)
from erasestream.schemas.errors import Refused
from tests.pipeline.demo.making import picture


def test_packaged_photos_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """All five come from the wheel, as real files of images."""

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    photos = packaged_photos()
    assert tuple(photo.name for photo in photos) == PACKAGED
    assert {photo.content_type for photo in photos} == {"image/png", "image/jpeg"}
    assert all(len(photo.data) > 100_000 for photo in photos)


def test_folder_gives_its_images_by_name(tmp_path: Path) -> None:
    """What is no image is left out and said; folders are passed over."""
    (tmp_path / "b.png").write_bytes(picture())
    (tmp_path / "a.bin").write_bytes(picture())
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    said: list[str] = []
    assert [photo.name for photo in photos_of(tmp_path, said.append)] == ["a.bin", "b.png"]
    assert [line.split()[2] for line in said] == ["empty.jpg", "notes.txt"]


def test_large_folder_is_cut_and_that_is_said(tmp_path: Path) -> None:
    """The demo stays short."""
    for number in range(MOST + 1):
        (tmp_path / f"{number}.png").write_bytes(picture())
    said: list[str] = []
    assert len(photos_of(tmp_path, said.append)) == MOST
    assert said == [f"{MOST + 1} photos are there, the first {MOST} are taken"]


@pytest.mark.parametrize("name", ["", "missing"])
def test_folder_without_images_is_refused(tmp_path: Path, name: str) -> None:
    """With a sentence that names the folder."""
    with pytest.raises(Refused, match=str(tmp_path)):
        photos_of(tmp_path / name, print)


def test_every_photo_is_sent_for_both_accounts_and_some_for_the_namesake(tmp_path: Path) -> None:
    """Each upload has a reference of its own; the namesake has the id of the one opted in."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(shade=number))
    planned = list(orders(photos_of(tmp_path, print)))
    counts = {sender: sum(order.sender == sender for order in planned) for sender in SENDERS}
    assert list(counts.values()) == [3, 3, NAMESAKE_PHOTOS]
    assert len({order.reference for order in planned}) == len(planned)
    assert NAMESAKE.account == OPTED_IN.account
    assert NAMESAKE.lane != OPTED_IN.lane
