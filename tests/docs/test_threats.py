"""docs/threats.md: every hostile party, and for each attempt a test that holds its effect."""

import re

import pytest

from tests.paths import ROOT

TEXT = (ROOT / "docs/threats.md").read_text()
PARTIES = dict(part.split("\n", 1) for part in re.split(r"(?m)^## ", TEXT)[1:])


def test_every_party_of_the_system_is_there() -> None:
    assert list(PARTIES) == [
        "Producer of a lane",
        "Consumer of a lane",
        "Account service of a lane",
        "Operator",
        "Another account on the machine",
        "Broker administrator",
        "Bucket",
        "Image",
        "Image at a URL",
    ]


@pytest.mark.parametrize("party", PARTIES)
def test_every_attempt_has_an_effect_and_a_test_that_exists(party: str) -> None:
    attempts = re.split(r"(?m)^- ", PARTIES[party])[1:]
    assert attempts
    for attempt in attempts:
        found = re.fullmatch(r"\*\*[^*]+\*\* [^*]+\n  Test: (`\S+`(?:, `\S+`)*)\s*", attempt)
        assert found, attempt
        for name in re.findall(r"`([^`]+)`", found[1]):
            path, _, test = name.partition("::")
            assert re.search(rf"(?m)^(async )?def {test}\(", (ROOT / path).read_text()), name
