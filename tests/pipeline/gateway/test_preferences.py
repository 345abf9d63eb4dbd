"""The headers Prefer and Accept."""

import pytest

from erasestream.pipeline.gateway.routes.preferences import Preference, preference, prefers_image


@pytest.mark.parametrize(
    ("prefer", "found"),
    [
        ([], Preference(0, None)),
        (["respond-async"], Preference(0, "respond-async")),
        (["wait=10"], Preference(10, "wait=10")),
        (['Wait="10"; of=me'], Preference(10, "wait=10")),
        (["respond-async, wait=5"], Preference(5, "respond-async, wait=5")),
        (["wait=5", "respond-async"], Preference(5, "respond-async, wait=5")),
        (["wait=9999"], Preference(60, "wait=60")),
        (["wait=0"], Preference(0, "wait=0")),
        (["wait=1, wait=7"], Preference(1, "wait=1")),
        (["wait=soon, return=minimal, ,"], Preference(0, None)),
        (["wait=99999999999999999999"], Preference(0, None)),
    ],
)
def test_a_preference_is_bounded_and_confirmed(prefer: list[str], found: Preference) -> None:
    assert preference(prefer, most_s=60.0) == found


@pytest.mark.parametrize(
    ("accept", "image"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("image/*", True),
        ("image/png", True),
        ("IMAGE/WebP, */*;q=0.8", True),
        ("application/json, image/png", False),
        ("application/json;q=0.5, image/png", True),
        ("image/png;q=0.1, */*", False),
        ("image/png;q=0", False),
        ("image/png;q=nonsense", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
    ],
)
def test_the_image_is_preferred_only_if_it_is_asked_for(accept: str, image: bool) -> None:
    assert prefers_image(accept) is image
