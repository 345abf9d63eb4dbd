"""Options of remove.bg's contract."""

import pytest

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.routes.removebg_options import removebg_options
from erasestream.schemas.options import CutoutOptions


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, CutoutOptions(size="preview")),
        ({"size": "4k"}, CutoutOptions(size="full")),
        ({"size": "50MP", "format": "WebP"}, CutoutOptions(size="full", format="webp")),
        ({"size": "regular", "type": "person"}, CutoutOptions(size="regular")),
        ({"size": "auto", "bg_color": "81d4fa"}, CutoutOptions(format="jpg", bg_color="81d4fa")),
        (
            {"format": "png", "bg_color": "red"},
            CutoutOptions(format="png", bg_color="red", size="preview"),
        ),
        ({"size": "hd", "crop_margin": "10px"}, CutoutOptions(size="hd")),
        (
            {"crop": True, "crop_margin": "10px", "size": "auto"},
            CutoutOptions(crop=True, crop_margin="10px"),
        ),
        ({"channels": "alpha", "size": "auto"}, CutoutOptions(channels="alpha")),
        ({"format": "ZIP", "size": "auto"}, CutoutOptions(format="zip")),
        (
            {"roi": "0% 0% 100% 100%", "scale": "original", "position": "original"},
            CutoutOptions(size="preview"),
        ),
        (
            {"type_level": "none", "add_shadow": False, "semitransparency": "true"},
            CutoutOptions(size="preview"),
        ),
        ({"bg_color": "", "roi": "", "size": ""}, CutoutOptions(size="preview")),
    ],
)
def test_fields_become_options(fields: dict[str, object], options: CutoutOptions) -> None:
    assert removebg_options(fields) == options


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"roi": "0px 0px 10px 10px"}, "roi"),
        ({"scale": "50%"}, "scale"),
        ({"position": "center"}, "position"),
        ({"bg_image_url": "https://example.com/a.png"}, "bg_image_url"),
        ({"add_shadow": "true"}, "add_shadow"),
        ({"semitransparency": False}, "semitransparency"),
        ({"type": "spaceship"}, "type"),
        ({"size": "gigantic"}, "size"),
        ({"colour": "red"}, "colour"),
        ({"format": "zip", "bg_color": "red"}, "zip"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(Problem) as caught:
        removebg_options(fields)
    assert (caught.value.status, caught.value.code) == (400, "invalid_options")
    assert named in caught.value.message
