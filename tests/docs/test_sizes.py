"""No module is longer than 300 lines, tests included."""

from tests.docs.prose import modules
from tests.paths import ROOT

MAX_LINES = 300
TABLES: frozenset[str] = frozenset()
"""Modules that are one table, and may be longer."""


def test_modules_have_at_most_300_lines() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name for name, count in lines.items() if count > MAX_LINES} == TABLES
