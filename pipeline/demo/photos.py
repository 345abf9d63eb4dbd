"""The photos of the demo: from a folder, or those in scikit-image's wheel.

Their bytes are not changed; files that are not images in our formats are skipped and reported.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.image_formats import sniff_content_type

MAX_PHOTOS = 8
"""With at most this many photos the demo takes less than three minutes on two cores."""

PACKAGED = ("coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg", "astronaut.png")
"""Photos in the wheel itself, which need no download."""

Log = Callable[[str], None]


class Photo(NamedTuple):
    """A photo; `name` is its file's name, for the report only, and is not sent."""

    name: str
    content_type: str
    data: bytes


def photos_of(folder: Path, log: Log) -> list[Photo]:
    """Return at most `MAX_PHOTOS` photos of a folder, by name.  Raises `Refused` without any."""
    if not folder.is_dir():
        raise Refused(f"there is no folder {folder}")
    found = [photo for path in sorted(folder.iterdir()) if (photo := _read_photo(path, log))]
    if not found:
        raise Refused(f"no JPEG, PNG or WebP image up to 30 MB in {folder}")
    if len(found) > MAX_PHOTOS:
        log(f"{len(found)} photos found, the first {MAX_PHOTOS} are used")
    return found[:MAX_PHOTOS]


def packaged_photos() -> list[Photo]:
    """Return a cup, a cat, a motorcycle, a rocket and a portrait, all free to use."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise Refused(
            "scikit-image, which contains the photos, is missing: give a folder of images"
        )
    data = Path(spec.origin).parent / "data"
    return [photo for name in PACKAGED if (photo := _read_photo(data / name, _refuse))]


def _refuse(line: str) -> None:
    raise Refused(f"scikit-image: {line}")


def _read_photo(path: Path, log: Log) -> Photo | None:
    if not path.is_file():
        return None
    try:
        is_small = path.stat().st_size <= MAX_UPLOAD_BYTES
        data = path.read_bytes() if is_small else b""
    except OSError:
        log(f"skipped: {path.name} cannot be read")
        return None
    content_type = sniff_content_type(data)
    if content_type is None:
        log(f"skipped: {path.name} is not a JPEG, PNG or WebP image up to 30 MB")
        return None
    return Photo(path.name, content_type, data)
