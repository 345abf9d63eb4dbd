"""The codes as a document, for those who meet them.  Pure."""

from collections.abc import Iterable

from erasestream.schemas.errors import FAILURE_CODES, SENTENCES, Code

_HEAD = """# Codes

Written by `erasestream codes` from `schemas/errors.py`; a test holds it against the code. A code is
never renamed and never used for something else. Take one that you do not know as a failure.

## Failed results

An upload that cannot be processed yields a failed result with one of these codes and its sentence,
never silence and never pixels. Producers raise those that they can see before anything travels.

"""
_REST = """
## What processes, commands and libraries say

These reach no customer. They stand in errors, logs and exit messages.

"""


def document() -> str:
    """`docs/codes.md`: the codes of failed results, then all others, each with its sentence."""
    customers = FAILURE_CODES
    return _HEAD + _table(customers) + _REST + _table(set(Code).difference(customers))


def _table(codes: Iterable[Code]) -> str:
    """In the order in which they are declared."""
    shown = set(codes)
    rows = [f"| `{code}` | {SENTENCES[code]} |\n" for code in Code if code in shown]
    return "| Code | Sentence |\n|---|---|\n" + "".join(rows)
