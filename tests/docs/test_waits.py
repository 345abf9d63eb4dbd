"""Waits use `Deadline`, and pauses between attempts are in the modules of the retry policy.

A sum of a clock reading is a deadline written by hand, unless `SUMS` gives another meaning.  A
pause is a retry, unless `PAUSES` gives another purpose.  Found are sleeps, and waits with a timeout
in an error handler or in a loop that has one; not those inside a method that such a loop calls.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeGuard

import pytest

from tests.docs.prose import modules
from tests.paths import ROOT

PRODUCT = ("pipeline", "schemas", "sinks", "topics")
READINGS = {"monotonic", "perf_counter", "time", "clock", "_clock", "now", "_now", "utc_now"}
"""Functions that return the time."""
NOW = frozenset({"now", "now_s", "now_ms"})
"""Names that hold the time wherever they come from."""
CONVERSIONS = {"int", "float", "round", "ceil", "floor", "max", "min", "timestamp"}
CLOCK = re.compile(
    r"time\.time(_ns)?|datetime(\.datetime)?\.(now|utcnow)\(.*\)"
    r"|Callable\[\[\], (float|datetime(\.datetime)?)\]"
)
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
LOOPS = ast.While | ast.For | ast.AsyncFor

DATA, RULE = "a moment in data, not the end of a wait", "a moment that a pure rule compares"
SUMS = {
    "schemas/clocks.py": {"clock() + timeout_s": "`Deadline` itself"},
    "pipeline/devstack/certificate_authority.py": {
        "now + timedelta(days=self.days)": DATA,
        "today + timedelta(days=10 * days)": DATA,
    },
    "pipeline/gateway/account_page/session.py": {"self._now() + self._lifetime": DATA},
    "pipeline/gateway/rate_limits.py": {
        "math.ceil(self._now().timestamp()) + full_in_s": DATA,
        "self._clock() + self._missing_s(key_id) + units * self._unit_s": (
            "the level of a bucket, to which later requests add"
        ),
    },
    "pipeline/stages/keys/self_check.py": {"after + self._allowed": RULE},
    "topics/admin/routing_evidence.py": {"self._now() + MAX_CLOCK_SKEW": DATA},
    "topics/client/delivery_queue.py": {"self._queue.clock() + delay_s": RULE},
    "topics/credentials/writer.py": {"now + lifetime": DATA},
    "topics/kafka/sasl.py": {"utc_now().timestamp() + TOKEN_READ_AGAIN_S": DATA},
    "topics/keys/client.py": {"self._now().timestamp() + PROMISE_S": DATA},
}
POLL, INTERVAL = "polls a condition until a deadline", "repeats at an interval, after success too"
PAUSES = {
    "pipeline/cli/demo.py": {"time.sleep(CHECK_EVERY_S)": INTERVAL},
    "pipeline/cli/receipts.py": {"time.sleep(every)": INTERVAL},
    "pipeline/devstack/gcs_emulator/faults.py": {
        "asyncio.sleep(fault.delay_s)": "the delay is the fault"
    },
    "pipeline/devstack/polling.py": {"time.sleep(deadline.slice_s(poll_s))": POLL},
    "pipeline/gateway/account_page/owner_keys.py": {"asyncio.sleep(_POLL_S)": POLL},
    "pipeline/gateway/fetching.py": {"asyncio.sleep(DROP_EVERY_S)": INTERVAL},
    "pipeline/runtime/bounded_end.py": {
        "time.sleep(self._within_s)": "ends the process afterwards"
    },
    "pipeline/runtime/retry.py": {
        "asyncio.sleep(self._pause_s)": "the retry policy",
        "self._stopping.wait(deadline.slice_s(wait_s) if deadline else wait_s)": "the retry policy",
    },
    "pipeline/stages/receipts/stage.py": {
        "self._stopping.wait(RETRY_S)": "ends the round of a stage, which tries again in the next"
    },
    "topics/consent/writer.py": {"time.sleep(deadline.slice_s(POLL_S))": POLL},
    "topics/kafka/producer/program_end.py": {"time.sleep(_POLL_S)": POLL},
}


def reads_time(node: ast.expr, names: frozenset[str]) -> bool:
    """Return whether an expression is a moment; a difference is a duration."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in READINGS:
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in CONVERSIONS:
            of_method = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            return any(reads_time(each, names) for each in (*of_method, *node.args))
        case ast.BinOp(op=ast.Sub()):
            return False
        case ast.BinOp(left=left, right=right):
            return reads_time(left, names) or reads_time(right, names)
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in names
    return False


def assignments(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield each target with its value, of tuples one by one."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                yield from zip(targets, values, strict=False)
            case ast.Assign(targets=targets, value=value):
                yield from ((target, value) for target in targets)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield target, value
            case ast.NamedExpr(target=target, value=value):
                yield target, value


def moments(tree: ast.AST, kind: type[ast.expr], names: frozenset[str]) -> frozenset[str]:
    """Return the names of this kind that are set to the time somewhere in the tree."""
    return names | {
        ast.unparse(target)
        for target, value in assignments(tree)
        if isinstance(target, kind) and reads_time(value, names)
    }


def sums(tree: ast.Module) -> set[str]:
    """Return the sums of a clock reading and something else: the longest, of nested ones."""
    of_module = moments(tree, ast.Attribute, NOW)
    scopes = [each for each in ast.walk(tree) if isinstance(each, FUNCTIONS)]
    found = set[ast.expr | ast.AugAssign]()
    for scope in (tree, *scopes):
        names = of_module if scope is tree else moments(scope, ast.Name, of_module)
        for node in ast.walk(scope):
            match node:
                case ast.BinOp(op=ast.Add()) if reads_time(node, names):
                    found.add(node)
                case ast.AugAssign(target=target, op=ast.Add(), value=value) if reads_time(
                    target, names
                ) or reads_time(value, names):
                    found.add(node)
    inner = {part for node in found for part in ast.walk(node) if part is not node}
    return {ast.unparse(node) for node in found - inner}


def pauses(tree: ast.Module) -> set[str]:
    """Return calls that sleep, and waits with a timeout after an error or beside a handler."""
    # `asyncio.sleep(0)` gives others a turn, and waits for nothing.
    found = {call for call in calls(tree, "sleep") if ast.unparse(call.args[0]) != "0"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) or (isinstance(node, LOOPS) and catches(node)):
            found |= {call for call in calls(node, "wait") if call.args or call.keywords}
    return {ast.unparse(node) for node in found}


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a function or a method of this name."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called == name:
                yield node


def catches(loop: ast.AST) -> bool:
    """Return whether a loop goes on after an error."""
    return any(isinstance(node, ast.ExceptHandler) for node in ast.walk(loop)) or any(
        calls(loop, "suppress")
    )


def untyped_clocks(tree: ast.Module) -> set[str]:
    """Return clocks that are neither `Clock` nor `WallClock`, and readings of wall time."""
    return {
        text
        for node in ast.walk(tree)
        if is_short(node) and CLOCK.fullmatch(text := ast.unparse(node))
    }


def is_short(node: ast.AST) -> TypeGuard[ast.expr]:
    """Return whether an expression may be a clock: long ones take long to print."""
    match node:
        case ast.Attribute(value=ast.Name()) | ast.Subscript(value=ast.Name()):
            return True
        case ast.Call(func=ast.Attribute(attr="now" | "utcnow")):
            return True
    return False


@cache
def product() -> dict[str, ast.Module]:
    """Return the modules that are no tests."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for path in modules()
        if path.relative_to(ROOT).parts[0] in PRODUCT
    }


def found(look: Callable[[ast.Module], set[str]]) -> dict[str, set[str]]:
    """Return what a search finds in the product's modules that have any of it."""
    return {name: hits for name, tree in product().items() if (hits := look(tree))}


def test_a_clock_reading_and_a_timeout_make_a_deadline() -> None:
    assert found(sums) == {name: set(reasons) for name, reasons in SUMS.items()}


def test_only_the_retry_policy_pauses_between_attempts() -> None:
    assert found(pauses) == {name: set(reasons) for name, reasons in PAUSES.items()}


def test_clocks_are_typed_and_wall_time_is_read_in_one_place() -> None:
    assert found(untyped_clocks) == {
        "schemas/clocks.py": {"Callable[[], datetime]", "Callable[[], float]", "datetime.now(UTC)"}
    }


@pytest.mark.parametrize(
    "planted",
    [
        "end_s = time.monotonic() + timeout_s",
        "end_s = timeout_s + self._clock()",
        "self._next_s = asyncio.get_running_loop().time() + 5",
        "def wait(now, timeout):\n    return now + timeout",
        "def wait():\n    began = clock()\n    return began + 3",
        "def wait():\n    a, began = 1, clock()\n    began += 3",
        "def a():\n    self._began = monotonic()\ndef b():\n    return self._began + 3",
    ],
)
def test_finds_a_planted_sum(planted: str) -> None:
    assert len(sums(ast.parse(planted))) == 1


@pytest.mark.parametrize(
    "planted",
    [
        "while True:\n    try:\n        ask()\n    except OSError:\n        time.sleep(1)",
        "for _ in range(3):\n    with suppress(OSError):\n        ask()\n    stopping.wait(1)",
        "try:\n    ask()\nexcept Unavailable:\n    self._stopping.wait(timeout=1)",
        "async def ask():\n    await sleep(PAUSE_S)",
    ],
)
def test_finds_a_planted_pause(planted: str) -> None:
    assert len(pauses(ast.parse(planted))) == 1


@pytest.mark.parametrize(
    "planted",
    ["def f(now_s: Callable[[], float]): ...", "at = time.time()", "at = datetime.now(UTC)"],
)
def test_finds_a_planted_clock(planted: str) -> None:
    assert len(untyped_clocks(ast.parse(planted))) == 1


@pytest.mark.parametrize(
    "harmless",
    [
        "deadline = Deadline(timeout_s, clock)",
        "age_s = (clock() - began) + 1",
        "def f():\n    began = clock()\n    took_s = clock() - began\n    return took_s + 1",
        "await asyncio.sleep(0)",
        "with lock:\n    changed.wait(POLL_S)",
    ],
)
def test_leaves_everything_else(harmless: str) -> None:
    tree = ast.parse(harmless)
    assert not sums(tree) | pauses(tree) | untyped_clocks(tree)
