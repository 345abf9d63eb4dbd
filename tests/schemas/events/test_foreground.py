"""The box around the product."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec.cloudevents import from_wire, to_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Cutout
from tests.schemas.samples import SAMPLES

CORNERS, SIDES = st.integers(0, 10**9 - 1), st.integers(1, 10**9 - 1)
(CUTOUT,) = (each for each in SAMPLES if isinstance(each, Cutout))


@given(st.builds(Foreground, CORNERS, CORNERS, SIDES, SIDES))
def test_a_box_survives_encoding(box: Foreground) -> None:
    wire = to_wire(CUTOUT.model_copy(update={"foreground": box}), source="/test")
    assert from_wire(Cutout, wire.headers, wire.value).foreground == box
    assert box.is_within(box.left + box.width, box.top + box.height)
    assert not box.is_within(box.left + box.width - 1, box.top + box.height)
    assert not box.is_within(box.left + box.width, box.top + box.height - 1)


@pytest.mark.parametrize(
    "text", ["", "1/2/3", "1/2/3/4/5", "-1/0/3/4", "0/0/0/4", "0/0/4/0", "01/2/3/4", "1/2/3/4\n"]
)
def test_another_text_is_no_box(text: str) -> None:
    wire = to_wire(CUTOUT, source="/test")
    headers = [*wire.headers, ("ce_foreground", text.encode())]
    with pytest.raises(InvalidEvent):
        from_wire(Cutout, headers, wire.value)
