"""Make each step of a stage's construction fail, at every statement of `pipeline/bootstrap`.

The statements are found while the stage is built, so that one that is added later is covered.
"""

import ast
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import erasestream.pipeline.bootstrap
from tests.leaks import Closable, InjectedError, assert_no_leak, baseline

FOLDER = str(Path(erasestream.pipeline.bootstrap.__file__).parent)
HANDS_OVER = re.compile(
    r"return \w+$|try:|(yield )?opened\.enter_context\(closing\(\w+\)\)$"
    r"|opened\.callback\(|with closing\(\w+\)"
)
Step = tuple[str, int]
"""A file and the line of a statement."""


def check_each_step_fails(build: Callable[[], Closable]) -> int:
    """Build once without a failure, then once for each statement, before which it fails.

    Nothing may stay open, neither after `close` nor after a failure.  Returns the number of
    statements.
    """
    before = baseline()
    steps, built = _watch(build, None)
    assert built is not None
    built.close()
    assert_no_leak(before)
    for step in steps:
        before = baseline()
        try:
            _watch(build, step)
        except InjectedError:
            assert_no_leak(before)
        else:
            raise AssertionError(f"no failure at {step}")
    return len(steps)


def _watch(build: Callable[[], Closable], fatal: Step | None) -> tuple[list[Step], Closable]:
    """Build, and return the statements in their order; fail before one of them.

    The first statement of a function is left out: the caller's one has failed in its place.
    """
    steps: list[Step] = []
    first: dict[str, Step] = {}

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(FOLDER):
            return None
        step = (code.co_filename, frame.f_lineno)
        if event != "line" or frame.f_lineno not in _statements(code.co_filename):
            return trace
        if first.setdefault(code.co_qualname, step) != step and step not in steps:
            steps.append(step)
            if step == fatal:
                sys.settrace(None)
                raise InjectedError(f"{Path(code.co_filename).name}:{frame.f_lineno}")
        return trace

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        return steps, build()
    finally:
        sys.settrace(earlier)


@cache
def _statements(file: str) -> frozenset[int]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return frozenset(each.lineno for each in statements if not _cannot_fail(each))


def _cannot_fail(statement: ast.stmt) -> bool:
    """Return whether it only hands over what was opened just before, or registers its end."""
    return HANDS_OVER.match(ast.unparse(statement)) is not None
