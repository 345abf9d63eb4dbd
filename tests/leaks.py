"""Show that everything is closed: threads, sockets and open files before and after.

    before = baseline()
    ...
    assert_no_leak(before)

or `with no_leak(): ...`.  `check_each_construction_fails` makes each client of a library that a
constructor of ours builds fail in turn, and shows that what it had opened before is closed.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from erasestream.schemas.clocks import Deadline

DEADLINE_S = 60.0
"""For threads that are ending; generous, since other tests run on the same machine."""
POLL_S = 0.05
PACKAGE = "erasestream"


@dataclass(frozen=True)
class Resources:
    """Open resources of this process, each by what identifies it."""

    threads: frozenset[int]
    sockets: frozenset[str]
    files: int
    """Number of file descriptors, of sockets too."""

    def since(self, before: "Resources") -> str:
        """Describe what is open now and was not before; empty if nothing is."""
        found = [f"thread {_name(each)}" for each in self.threads - before.threads]
        found += [f"socket {each}" for each in self.sockets - before.sockets]
        if self.files > before.files:
            found.append(f"{self.files - before.files} file descriptors")
        return ", ".join(sorted(found))


class Closable(Protocol):
    """A part that owns resources."""

    def close(self) -> None:
        """Let go of them."""


def resources() -> Resources:
    """Return what this process has open now."""
    process = psutil.Process()
    return Resources(
        threads=frozenset(thread.id for thread in process.threads()),
        sockets=frozenset(
            f"{each.fd} {each.laddr} {each.raddr}" for each in process.net_connections(kind="all")
        ),
        files=process.num_fds(),
    )


def baseline() -> Resources:
    """Return what is open now, without earlier tests' garbage: a client in it may reconnect."""
    gc.collect()
    return resources()


def assert_no_leak(before: Resources, *, deadline_s: float = DEADLINE_S) -> None:
    """Wait until nothing is open that was not before; fail after the deadline.

    Garbage is not collected: what only the collector would close counts as open.
    """
    deadline = Deadline(deadline_s, time.monotonic)
    while leaked := resources().since(before):
        assert not deadline.has_passed, f"still open: {leaked}"
        time.sleep(POLL_S)


@contextmanager
def no_leak(*, deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Check that what the block opens is closed when it ends, also by an exception."""
    before = baseline()
    yield
    assert_no_leak(before, deadline_s=deadline_s)


class InjectedError(Exception):
    """The failure of a construction that `ConstructionFault` makes fail."""


class ConstructionFault:
    """Makes the nth construction of these library classes in our modules fail.

    The library's class is replaced by a subclass wherever a module of ours has imported it; until
    `arm` is called, and after the failure, it behaves as the class itself.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *classes: type) -> None:
        self._left = 0
        self.has_failed = False
        for original in classes:
            self._replace(monkeypatch, original)

    def arm(self, number: int) -> None:
        """Let the nth construction from now on fail."""
        self._left, self.has_failed = number, False

    def _replace(self, monkeypatch: pytest.MonkeyPatch, original: Any) -> None:
        fault = self

        class Failing(original):  # type: ignore[misc]
            def __init__(self, *arguments: object, **named: object) -> None:
                fault._count(original.__name__)
                super().__init__(*arguments, **named)

        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == PACKAGE:
                for attribute, value in list(vars(module).items()):
                    if value is original:
                        monkeypatch.setattr(module, attribute, Failing)

    def _count(self, name: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.has_failed = True
            raise InjectedError(name)


def check_each_construction_fails(fault: ConstructionFault, build: Callable[[], Closable]) -> int:
    """Build once for each construction, which fails, and at last without a failure.

    Nothing may stay open, neither after a failure nor after `close`.  Returns the number of
    constructions that failed.
    """
    for number in count(1):
        before = baseline()
        fault.arm(number)
        try:
            built = build()
        except Exception:  # whatever our code makes of it
            if not fault.has_failed:
                raise
        else:
            assert not fault.has_failed, "a failed construction went unnoticed"
            built.close()
            assert_no_leak(before)
            return number - 1
        assert_no_leak(before)
    raise AssertionError


def _name(thread: int) -> str:
    try:
        return Path(f"/proc/self/task/{thread}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return str(thread)
