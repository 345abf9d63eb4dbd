"""Options of `/v2`, from fields of text or JSON to those of a cut-out.  Pure.

Unknown fields are refused: a typo must not silently produce another picture.
"""

from collections.abc import Callable, Mapping

from erasestream.pipeline.gateway.problems import invalid_option
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.options import Channels, CutoutOptions, Edges, OutputFormat

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def boolean(name: str, value: object) -> bool:
    """Return the value of true, false, 1, 0, yes or no.  Raises `Problem` (invalid_options)."""
    known = _BOOLEANS.get(str(value).strip().lower())
    if known is None:
        raise invalid_option(f"{name} is true or false")
    return known


def whole(name: str, value: object) -> int:
    """Return a whole number.  Raises `Problem` (invalid_options)."""
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or len(text) > 9:  # noqa: PLR2004
        raise invalid_option(f"{name} is a whole number")
    return int(text)


def word(name: str, value: object) -> str:
    """Return text without the space around it, in lower case."""
    if not isinstance(value, str):
        raise invalid_option(f"{name} is text")
    return value.strip().lower()


_Reader = Callable[[str, object], object]
READERS: Mapping[str, _Reader] = {
    "format": word,
    "channels": word,
    "size": word,
    "bg_color": word,
    "crop_margin": word,
    "crop": boolean,
    "despill": boolean,
    "quality": whole,
    "max_dimension": whole,
}


def cutout_options(fields: Mapping[str, object], *, is_mask: bool = False) -> CutoutOptions:
    """Return the options in these fields; empty ones are as if they were absent.

    A mask is always a PNG.  Raises `Problem` (invalid_options) that names the field.
    """
    given = {name: value for name, value in fields.items() if value != ""}
    if unknown := sorted(given.keys() - READERS.keys()):
        raise invalid_option(f"there is no option {unknown[0][:32]!r}")
    read = {name: READERS[name](name, value) for name, value in given.items()}
    if read.get("format") == "jpeg":
        read["format"] = OutputFormat.JPG
    if "despill" in read:
        read["edges"] = Edges.CLEAN if read.pop("despill") else Edges.AS_IS
    if is_mask:
        read["channels"] = Channels.ALPHA
    if read.get("channels") == Channels.ALPHA:
        read["format"] = OutputFormat.PNG
        read.pop("quality", None)
        read.pop("bg_color", None)
    if not read.get("crop", True):
        read.pop("crop_margin", None)
    try:
        return CutoutOptions.model_validate(read)
    except InvalidEvent as error:
        raise invalid_option(error.detail) from None
