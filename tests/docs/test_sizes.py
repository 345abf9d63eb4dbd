"""Limits of size, tests included: 300 lines per module, 120 lines and 6 attributes per class.

Attributes are those that change after construction, as `mutable_attributes.py` defines them.  No
exception may be added, and one that is no longer needed leaves its list.
"""

import ast
from collections.abc import Callable

import pytest

from tests.docs.mutable_attributes import mutable_attributes
from tests.docs.prose import modules
from tests.paths import ROOT

MAX_LINES, MAX_MUTABLE_ATTRIBUTES = 300, 6
MAX_CLASS_LINES, MAX_EXCEPTION_LINES = 120, 130
TABLES: frozenset[str] = frozenset()
"""Modules that are one table, and may be longer."""

PUBLIC = "a class that customers use: most of its lines are what they read"
QUERIES = "independent questions about the same state, a few lines each"
ONE_CLIENT = "every method needs the same client of Kafka or of the cloud"
LONGER: dict[str, str] = {
    "Admin": ONE_CLIENT,
    "AsyncResultSubscription": PUBLIC,
    "AsyncUploadProducer": PUBLIC,
    "CompactedView": ONE_CLIENT,
    "ConsentReader": QUERIES,
    "ConsentWriter": "the order of its writes is the promise",
    "CutoutOptions": PUBLIC,
    "DeliveryTracker": "short methods under one lock",
    "EncryptionStage": "one round of its rules, and already parts for all else",
    "FetchSession": "short methods under one lock",
    "GcsObjectStore": ONE_CLIENT,
    "GrantHistory": QUERIES,
    "GroupConsumer": ONE_CLIENT,
    "Identity": "one file format, checked in one order",
    "JoinMachine": "a state machine of Hypothesis, whose rules must be methods of one class",
    "KafkaRouterHarness": "one lane of a test",
    "KmsServer": "an imitated service, one method per request",
    "OffsetQueries": QUERIES,
    "PipelineHarness": "one accessor per client of a pipeline",
    "RecordFetcher": ONE_CLIENT,
    "ResultReader": "every method wakes or waits for the same thread",
    "Stack": "the files and processes of one stack",
    "TransactionalLoop": "one turn of the loop; half of it makes its parts",
    "UploadSender": "every method hands over to the same pool",
    "_Storm": "one turn of a storm, and its conditions",
}
"""Classes that are longer, and why; only `LONGEST` have more than 130 lines."""

LONGEST = {"JoinMachine", "KafkaRouterHarness", "PipelineHarness"}

MORE_ATTRIBUTES = {"JoinMachine": "the model of a whole installation, which its rules compare with"}
"""Classes with more mutable attributes, and why."""


def test_modules_have_at_most_300_lines() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name for name, count in lines.items() if count > MAX_LINES} == TABLES


def test_classes_have_at_most_120_lines() -> None:
    assert _classes(lambda node: _length(node) > MAX_CLASS_LINES) == LONGER.keys()
    assert _classes(lambda node: _length(node) > MAX_EXCEPTION_LINES) == LONGEST


def test_classes_have_at_most_6_mutable_attributes() -> None:
    found = _classes(lambda node: len(mutable_attributes(node)) > MAX_MUTABLE_ATTRIBUTES)
    assert found == MORE_ATTRIBUTES.keys()


@pytest.mark.parametrize(
    "statement",
    [
        "self.a = 1",
        "self.a += 1",
        "self.a: int = 1",
        "del self.a",
        "b, (self.a, *c) = d",
        "for self.a in b: pass",
        "with b as self.a: pass",
        "self.a[b] = 1",
        "del self.a[b]",
        "self.a.append(b)",
        "self.a.update(b)",
    ],
)
def test_every_way_to_change_an_attribute_counts(statement: str) -> None:
    assert _mutable(f"def __init__(self):\n  self.a = []\n def f(self):\n  {statement}") == {"a"}


@pytest.mark.parametrize(
    "methods",
    [
        "def __init__(self):\n  self.a = 1",
        "def __init__(self):\n  self.a = Event()\n def f(self):\n  self.a.clear()",
        "def __init__(self):\n  self.a = []\n def f(self):\n  return self.a.index(b)",
        "def f(self):\n  self.a: int",
        "def f(self):\n  self.a.b = b.a = 1",
    ],
)
def test_what_other_objects_change_does_not_count(methods: str) -> None:
    assert _mutable(methods) == set()


def _mutable(methods: str) -> set[str]:
    (node,) = ast.parse(f"class C:\n {methods}").body
    assert isinstance(node, ast.ClassDef)
    return mutable_attributes(node)


def _classes(is_too_large: Callable[[ast.ClassDef], bool]) -> set[str]:
    return {
        node.name
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and is_too_large(node)
    }


def _length(node: ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1
