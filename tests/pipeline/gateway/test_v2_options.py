"""Options of `/v2`, from text or JSON."""

import pytest

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.routes.v2_options import cutout_options
from erasestream.schemas.options import CutoutOptions


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, CutoutOptions()),
        ({"format": "JPG", "bg_color": ""}, CutoutOptions(format="jpg")),
        ({"format": "jpeg", "quality": "80"}, CutoutOptions(format="jpg", quality=80)),
        ({"crop": "yes", "crop_margin": "5%"}, CutoutOptions(crop=True, crop_margin="5%")),
        ({"crop": False, "crop_margin": "5%"}, CutoutOptions()),
        ({"despill": "0", "size": "hd"}, CutoutOptions(edges="as_is", size="hd")),
        ({"despill": True, "max_dimension": 512}, CutoutOptions(max_dimension=512)),
        (
            {"channels": "alpha", "format": "webp", "bg_color": "red", "quality": 80},
            CutoutOptions(channels="alpha"),
        ),
    ],
)
def test_fields_become_options(fields: dict[str, object], options: CutoutOptions) -> None:
    assert cutout_options(fields) == options


def test_the_legacy_field_asks_for_the_mask() -> None:
    wanted = cutout_options({"channels": "rgba", "format": "jpg"}, is_mask=True)
    assert wanted == CutoutOptions(channels="alpha")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"crop": "maybe"}, "crop"),
        ({"crop": []}, "crop"),
        ({"quality": "9.5", "format": "jpg"}, "quality"),
        ({"quality": True, "format": "jpg"}, "quality"),
        ({"max_dimension": "9" * 5000}, "max_dimension"),
        ({"size": 4}, "size"),
        ({"size": "gigantic"}, "size"),
        ({"bg_color": "#12"}, "bg_color"),
        ({"quality": "80"}, "quality"),
    ],
)
def test_a_problem_names_the_option(fields: dict[str, object], named: str) -> None:
    with pytest.raises(Problem) as caught:
        cutout_options(fields)
    assert caught.value.code == "invalid_options"
    assert caught.value.status == 400
    assert named in caught.value.message
