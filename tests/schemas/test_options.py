"""Options of a cut-out: accepted, refused, and converted to pixels."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.options import Channels, CutoutOptions, OutputFormat, Size

REFUSED = [
    {"fromat": "png"},
    {"format": "gif"},
    {"channels": "rgb"},
    {"size": "4k"},
    {"max_dimension": 15},
    {"max_dimension": 100, "size": "hd"},
    {"crop_margin": "5px"},
    {"crop": True, "crop_margin": "501px"},
    {"crop": True, "crop_margin": "51%"},
    {"crop": True, "crop_margin": "1px 2px 3px"},
    {"crop": True, "crop_margin": "5em"},
    {"crop": True, "crop_margin": "-5px"},
    {"crop": True, "crop_margin": "5px\n"},
    {"bg_color": "blurple"},
    {"bg_color": "12345"},
    {"bg_color": "fff", "channels": "alpha"},
    {"format": "zip", "bg_color": "fff"},
    {"format": "zip", "channels": "alpha"},
    {"quality": 0},
    {"quality": 90, "format": "png"},
    {"edges": "sharp"},
    {"own_alpha": "ignore"},
]


@pytest.mark.parametrize("asked", REFUSED, ids=str)
def test_the_constructor_refuses_with_an_error_of_ours(asked: dict[str, object]) -> None:
    with pytest.raises(InvalidEvent) as refused:
        CutoutOptions(**asked)  # type: ignore[arg-type]
    assert refused.value.code is Code.INVALID_OPTIONS


@pytest.mark.parametrize("asked", REFUSED, ids=str)
def test_unknown_and_contradictory_options_are_refused(asked: dict[str, object]) -> None:
    """With the code, and without the value in the message."""
    with pytest.raises(InvalidEvent) as refused:
        CutoutOptions.from_json(json.dumps(asked))
    assert refused.value.code is Code.INVALID_OPTIONS
    for value in asked.values():
        if isinstance(value, str) and len(value) > 3 and value != "alpha":
            assert value not in refused.value.detail


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"png"', "\ud800", "[" * 10_000])
def test_options_that_are_no_json_object_are_refused(text: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        CutoutOptions.from_json(text)
    assert refused.value.code is Code.INVALID_OPTIONS


def test_errors_name_the_option_or_the_contradiction() -> None:
    with pytest.raises(InvalidEvent, match="crop_margin needs crop"):
        CutoutOptions.from_json('{"crop_margin": "5px"}')
    with pytest.raises(InvalidEvent, match="quality"):
        CutoutOptions.from_json('{"quality": 101}')


@given(
    st.builds(
        CutoutOptions,
        format=st.sampled_from([OutputFormat.WEBP, OutputFormat.JPG, OutputFormat.AUTO]),
        channels=st.sampled_from(Channels),
        size=st.sampled_from(Size),
        crop=st.booleans(),
        quality=st.none() | st.integers(1, 100),
    )
)
def test_options_survive_json(options: CutoutOptions) -> None:
    """Only values that differ from the defaults are written."""
    assert CutoutOptions.from_json(options.to_json()) == options
    assert CutoutOptions().to_json() == "{}"


def test_margins_are_top_right_bottom_left() -> None:
    """One, two or four values, in pixels or in percent of the product's height or width."""

    def margins(text: str | None) -> tuple[int, ...]:
        return CutoutOptions(crop=True, crop_margin=text).margins(200, 100)

    assert margins(None) == (0, 0, 0, 0)
    assert margins("7px") == (7, 7, 7, 7)
    assert margins("10%") == (10, 20, 10, 20)
    assert margins("1px 2px") == (1, 2, 1, 2)
    assert margins("1px 2px 3% 4%") == (1, 2, 3, 8)


@pytest.mark.parametrize(
    ("options", "colour"),
    [
        (CutoutOptions(), None),
        (CutoutOptions(format=OutputFormat.JPG), (255, 255, 255)),
        (CutoutOptions(bg_color="#81D4fa"), (0x81, 0xD4, 0xFA)),
        (CutoutOptions(bg_color="1ac"), (0x11, 0xAA, 0xCC)),
        (CutoutOptions(bg_color="Teal"), (0, 128, 128)),
        (CutoutOptions(format=OutputFormat.JPG, channels=Channels.ALPHA), None),
    ],
)
def test_the_background_is_a_colour_or_none(
    options: CutoutOptions, colour: tuple[int, int, int] | None
) -> None:
    """Hex in both lengths, names in any case; jpg always has a colour."""
    assert options.background == colour
