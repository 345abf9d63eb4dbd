"""A start that fails or is cancelled leaves no process, thread, socket or file."""

import asyncio
import errno
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Refused
from tests.leaks import no_leak
from tests.pipeline.stages.inference.isolation.pool_harness import until

STEPS = {
    "the socket": (socket, "socketpair"),
    "the process": (asyncio, "create_subprocess_exec"),
    "watching the socket": (asyncio.SelectorEventLoop, "add_reader"),
    "sending a task": (socket, "send_fds"),
}
"""Calls of the standard library in the steps of a start."""


def fail_second_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Let the second call from now on fail, as with a full table of descriptors."""
    original, calls = getattr(owner, name), []

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise OSError(errno.EMFILE, "too many open files")
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, call)


def check_leaves_nothing(scenario: Callable[[], Awaitable[None]], error: type[Exception]) -> None:
    """Run a scenario in its own event loop; it must raise, and leave nothing behind.

    Processes have ended once it has raised; the loop's own threads end with the loop.
    """
    before = set(psutil.Process().children(recursive=True))

    async def main() -> None:
        try:
            await scenario()
        finally:
            assert set(psutil.Process().children(recursive=True)) == before

    with no_leak(), pytest.raises(error):
        asyncio.run(main())


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_fails_in_any_step_ends_the_processes_that_run(
    tiny_model: Installed, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Of two processes the second one fails."""

    async def start() -> None:
        fail_second_call(monkeypatch, *STEPS[step])
        await ProcessPool(model=tiny_model, children=2, isolation=Isolation.LONG_LIVED).start()

    check_leaves_nothing(start, Refused if step == "sending a task" else OSError)


def test_a_program_that_does_not_exist_leaves_nothing(
    tiny_model: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start() -> None:
        monkeypatch.setattr(sys, "executable", "/no/such/program")
        await ProcessPool(model=tiny_model, children=1).start()

    check_leaves_nothing(start, FileNotFoundError)


def test_a_start_that_is_cancelled_leaves_nothing(tiny_model: Installed) -> None:
    async def start() -> None:
        before = set(psutil.Process().children())
        pool = ProcessPool(model=tiny_model, children=2, isolation=Isolation.LONG_LIVED)
        starting = asyncio.create_task(pool.start())
        await until(lambda: len(set(psutil.Process().children()) - before) == 2)
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        assert not pool.pids
        raise InterruptedError

    check_leaves_nothing(start, InterruptedError)


def test_a_pool_that_was_closed_leaves_nothing(tiny_model: Installed) -> None:
    async def start_and_close() -> None:
        pool = ProcessPool(model=tiny_model, children=2, isolation=Isolation.LONG_LIVED)
        await pool.start()
        await pool.close()
        raise InterruptedError

    check_leaves_nothing(start_and_close, InterruptedError)
