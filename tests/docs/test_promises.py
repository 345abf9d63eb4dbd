"""docs/promises.md has every promise once; every decision has all its parts."""

import re

import pytest

from tests.paths import ROOT

TEXT = (ROOT / "docs/promises.md").read_text()
PROMISES = re.split(r"(?m)^\*\*(?=P\d+\.)", TEXT.partition("## Caveats")[0])[1:]
LINES = ("Control", "Code", "Test", "Watched by")


def test_every_promise_is_there_once() -> None:
    """P1 to P19, in order."""
    assert [int(part[1:].partition(".")[0]) for part in PROMISES] == list(range(1, 20))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda text: text.partition(".")[0])
def test_a_promise_says_what_keeps_it(promise: str) -> None:
    """Control, code, test and watch each stand there, if only as `none yet`."""
    entries = dict(re.findall(r"(?m)^- (\w[\w ]*): (.+)$", promise))
    assert tuple(entries) == LINES
    assert all(entries.values())


def test_decisions_are_short_and_whole() -> None:
    """Each has context, decision and consequences, in 20 to 60 lines, numbered without a gap."""
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text()
        headings = re.findall(r"(?m)^## (.+)$", text)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert 20 <= len(text.splitlines()) <= 60, path.name
