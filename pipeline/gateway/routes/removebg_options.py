"""Options of remove.bg's contract, from its fields to those of a cut-out.  Pure.

Fields that this service cannot honour are refused by name, unless they ask for what happens
anyway.  The type of the foreground is found by the model: any is taken, as `auto`.
"""

from collections.abc import Mapping

from erasestream.pipeline.gateway.problems import invalid_option
from erasestream.pipeline.gateway.routes.v2_options import boolean, cutout_options, word
from erasestream.schemas.options import CutoutOptions, Size

_ALIASES = {"4k": "full", "50mp": "full", "": "preview"}
"""Further names of sizes, and the default."""
SIZES = (*(size.value for size in Size), *filter(None, _ALIASES))
FORMATS = ("auto", "png", "jpg", "jpeg", "webp", "zip")
WITHOUT_EFFECT: Mapping[str, frozenset[str]] = {
    "roi": frozenset({"0% 0% 100% 100%", "0 0 100% 100%"}),
    "scale": frozenset({"original", "100%"}),
    "position": frozenset({"original"}),
    "bg_image_url": frozenset(),
    "add_shadow": frozenset({"false", "0", "no"}),
    "shadow_type": frozenset({"none"}),
    "semitransparency": frozenset({"true", "1", "yes"}),
}
"""Fields that cannot be honoured, with the values that change nothing."""
TYPES: Mapping[str, frozenset[str]] = {
    "type": frozenset(
        {"auto", "person", "product", "animal", "car", "car_interior", "car_part"}
        | {"transportation", "graphics", "other"}
    ),
    "type_level": frozenset({"none", "1", "2", "latest"}),
}


def removebg_options(fields: Mapping[str, object]) -> CutoutOptions:
    """Return the options in these fields.  Raises `Problem` (invalid_options) with the name."""
    given = {name: value for name, value in fields.items() if value != ""}
    for name, harmless in WITHOUT_EFFECT.items():
        if name in given and str(given.pop(name)).strip().lower() not in harmless:
            raise invalid_option(f"{name} is not supported")
    for name, known in TYPES.items():
        if name in given and str(given.pop(name)).strip().lower() not in known:
            raise invalid_option(f"{name} has an unknown value")
    size = word("size", given.get("size", ""))
    if not boolean("crop", given.get("crop", "false")):
        given.pop("crop_margin", None)
    return cutout_options(
        {**given, "size": _ALIASES.get(size, size), "format": _format(given)},
    )


def _format(given: Mapping[str, object]) -> str:
    """Return the format; `auto` is png where anything is transparent, and else jpg."""
    wanted = word("format", given.get("format", "auto"))
    return wanted if wanted != "auto" else ("jpg" if "bg_color" in given else "png")
