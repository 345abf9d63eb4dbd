"""docs/promises.md names what is there: every promise once, every file, every test."""

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


@pytest.mark.parametrize("promise", PROMISES, ids=lambda text: text.partition(".")[0])
def test_what_a_promise_names_exists(promise: str) -> None:
    """Files, and tests by their names; a renamed test is missed here."""
    for name in re.findall(r"`([a-z]+/[^`\s]+)`", promise):
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), name
        if test:
            found = re.search(rf"(?m)^(async )?def {test}\(", (ROOT / path).read_text())
            assert found, name


def test_decisions_are_short_and_whole() -> None:
    """Each has context, decision and consequences, in 20 to 60 lines, numbered without a gap."""
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text()
        headings = re.findall(r"(?m)^## (.+)$", text)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert 20 <= len(text.splitlines()) <= 60, path.name


def test_links_between_documents_lead_somewhere() -> None:
    """No relative link of the documents is broken."""
    for path in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
