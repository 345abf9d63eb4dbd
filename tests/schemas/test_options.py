"""The options of a cut-out: what they allow, what they refuse, and what they come to."""

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
    {"quality": 0},
    {"quality": 90, "format": "png"},
    {"edges": "sharp"},
]


@pytest.mark.parametrize("asked", REFUSED, ids=str)
def test_what_is_unknown_or_contradicts_itself_is_refused(asked: dict[str, object]) -> None:
    """With its code, and without the value in the sentence."""
    with pytest.raises(InvalidEvent) as refused:
        CutoutOptions.from_json(json.dumps(asked))
    assert refused.value.code is Code.INVALID_OPTIONS
    for value in asked.values():
        if isinstance(value, str) and len(value) > 3 and value != "alpha":
            assert value not in refused.value.detail


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"png"', "\ud800", "[" * 10_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    """Whatever a stranger writes into the header."""
    with pytest.raises(InvalidEvent) as refused:
        CutoutOptions.from_json(text)
    assert refused.value.code is Code.INVALID_OPTIONS


def test_a_sentence_says_what_is_wrong() -> None:
    """Names, and our own words where options contradict each other."""
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
def test_written_and_read_they_are_the_same(options: CutoutOptions) -> None:
    """Only what differs from the defaults travels."""
    assert CutoutOptions.from_json(options.to_json()) == options
    assert CutoutOptions().to_json() == "{}"


def test_margins_are_top_right_bottom_left() -> None:
    """One value, two or four, in pixels or in percent of the product's own height or width."""

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
    """Hex in both lengths, names in any case; a jpg has one always."""
    assert options.background == colour
