"""Plain English in documents, docstrings, comments, sentences and names.

Each banned expression has the better one beside it.  Code spans are not checked.
"""

import re
from collections.abc import Iterable

from tests.docs.prose import Prose, documents, modules, of_document, of_module

BANNED = {
    r"can not": "cannot",
    r"anew": "again, recreate, reconnect",
    r"for ever": "indefinitely, without limit",
    r"(?:is|are|was|were|be|been|being) away": "unavailable",
    r"c(?:om(?:es?|ing)|ame) to be": "is created, arises",
    r"lies?|lay|lain|lying": "is (stored)",
    r"said|says|told": "logged, reported, documented",
    r"whoever|nobody|somebody": "name the actor",
    r"stands?(?! for\b)": "is, is in force, is written",
    r"midst": "during",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"shall": "must, is to",
    r"troubles?": "error, failure",
}
PATTERN = re.compile(rf"\b(?:{'|'.join(f'({each})' for each in BANNED)})\b", re.IGNORECASE)
SUBJECT_CLAUSE = re.compile(r"(?:^|(?<=[.:;] ))What\b[^.?]*(?:\.|$)")
"""A sentence that begins with What and is no question."""


def findings(pieces: Iterable[Prose]) -> list[str]:
    found = []
    for where, text in pieces:
        for match in PATTERN.finditer(text):
            better = list(BANNED.values())[(match.lastindex or 1) - 1]
            around = text[max(0, match.start() - 30) : match.end() + 30]
            found.append(f"{where}: {match[0]!r} ({better}): ...{around}...")
        if clause := SUBJECT_CLAUSE.search(text):
            found.append(f"{where}: begins with What: {clause[0][:60]}")
    return found


def test_documents_are_in_plain_english() -> None:
    assert not findings(piece for path in documents() for piece in of_document(path))


def test_code_is_in_plain_english() -> None:
    """Docstrings, comments, sentences in strings, and names; of tests, too."""
    assert not findings(piece for path in modules() for piece in of_module(path))


def test_a_banned_expression_is_found() -> None:
    """In every kind of text, but not in code spans."""
    assert findings([Prose("", "can not")])
    assert findings([Prose("", "What is.")])
    assert not findings([Prose("", "`"), Prose("", "What is kept?"), Prose("", "cannot stand for")])
