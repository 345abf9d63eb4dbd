"""Names of retained pictures: canonical, and without the name key anonymous."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.errors import (
    InvariantBroken,
    SealBroken,
)
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.sinks.images.object_names import ObjectNamer, StoredName


def malformed() -> Iterator[str]:
    """Yield names that are almost canonical."""
    good = StoredName(
        "a" * 64,
        GrantId("0" * 8 + "-0000-8000-8000-" + "0" * 12),
        UploadId("018f3c4e-0000-7000-8000-000000000001"),
        Part.CUTOUT,
        "b" * 64,
    )
    text = str(good)
    assert StoredName.parse(text) == good
    yield from ("", text[1:], text + "0", text.upper(), text.replace("/", "."), text + "/x")
    yield from (text.replace("cutout", "mask"), text.replace("018f", "018F"), f"{text}\n")


@pytest.mark.parametrize("name", list(malformed()))
def test_only_canonical_names_are_parsed(name: str) -> None:
    with pytest.raises(SealBroken):
        StoredName.parse(name)


def test_names_depend_on_the_name_key() -> None:
    """Lane and account are not ambiguous when concatenated."""
    one, other = ObjectNamer(bytes(32)), ObjectNamer(bytes([1]) * 32)
    lane, account = Lane("shop"), AccountId("a")
    assert one.owner(lane, account) != other.owner(lane, account)
    assert one.owner(Lane("sho"), AccountId("pa")) != one.owner(lane, account)
    with pytest.raises(InvariantBroken):
        ObjectNamer(b"short")
