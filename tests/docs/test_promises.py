"""docs/promises.md has every promise once; every decision has all its parts."""

import re

import pytest

from tests.paths import ROOT

TEXT = (ROOT / "docs/promises.md").read_text()
PROMISES = re.split(r"(?m)^\*\*(?=P\d+\.)", TEXT.partition("## Caveats")[0])[1:]
LINES = ("Control", "Code", "Test", "Watched by")


def test_promises_1_to_19_are_there_in_order() -> None:
    assert [int(part[1:].partition(".")[0]) for part in PROMISES] == list(range(1, 20))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda text: text.partition(".")[0])
def test_every_promise_has_control_code_test_and_watch(promise: str) -> None:
    """An entry may be `none yet`, but not empty."""
    entries = dict(re.findall(r"(?m)^- (\w[\w ]*): (.+)$", promise))
    assert tuple(entries) == LINES
    assert all(entries.values())


def test_decisions_have_all_sections_in_20_to_60_lines() -> None:
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text()
        headings = re.findall(r"(?m)^## (.+)$", text)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert 20 <= len(text.splitlines()) <= 60, path.name
