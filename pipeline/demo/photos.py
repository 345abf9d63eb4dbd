"""The photos of the demo: from a folder, or those that scikit-image's wheel carries.

Their bytes are taken as they are; what is no image in our formats is left out and said.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.image_formats import sniff_content_type

MOST = 8
"""So many photos keep the demo below three minutes on two cores."""

PACKAGED = ("coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg", "astronaut.png")
"""Photos in the wheel itself: none of them is fetched."""

Say = Callable[[str], None]


class Photo(NamedTuple):
    """A photo; `name`, its file's, is for people and is sent nowhere."""

    name: str
    content_type: str
    data: bytes


def photos_of(folder: Path, say: Say) -> list[Photo]:
    """The photos in a folder, by name, at most `MOST`.  Raises `Refused` if there is none."""
    if not folder.is_dir():
        raise Refused(f"there is no folder {folder}")
    found = [photo for path in sorted(folder.iterdir()) if (photo := _photo(path, say))]
    if not found:
        raise Refused(f"no JPEG, PNG or WebP image up to 25 MB in {folder}")
    if len(found) > MOST:
        say(f"{len(found)} photos are there, the first {MOST} are taken")
    return found[:MOST]


def packaged_photos() -> list[Photo]:
    """A cup, a cat, a motorcycle, a rocket and a portrait, all free to use."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise Refused("scikit-image, which carries photos, is missing: give a folder of images")
    data = Path(spec.origin).parent / "data"
    return [photo for name in PACKAGED if (photo := _photo(data / name, _refuse))]


def _refuse(line: str) -> None:
    raise Refused(f"scikit-image: {line}")


def _photo(path: Path, say: Say) -> Photo | None:
    if not path.is_file():
        return None
    try:
        is_small = path.stat().st_size <= MAX_UPLOAD_BYTES
        data = path.read_bytes() if is_small else b""
    except OSError:
        say(f"left out: {path.name} can not be read")
        return None
    content_type = sniff_content_type(data)
    if content_type is None:
        say(f"left out: {path.name} is not a JPEG, PNG or WebP image up to 25 MB")
        return None
    return Photo(path.name, content_type, data)
