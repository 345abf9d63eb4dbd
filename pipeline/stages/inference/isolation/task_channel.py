"""The parent's end of the socket to a worker process: tasks go out, reports come in.

* Tasks are numbered from 1.  Number 0 is the start of the process, which reports once: loaded,
  or refused with a code.
* A task gets at most one report.  A report on a task that is no longer awaited is dropped.
* The end of the socket, an error, or a message that is no report closes the channel: `on_lost`
  is called, and every task that waits raises `WorkerProcessGone`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from itertools import count

from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.isolation import protocol
from erasestream.pipeline.stages.inference.isolation.protocol import (
    Command,
    Outcome,
    ProtocolViolation,
)

_REPORT_BYTES = protocol.REPORT.size + 256


class WorkerProcessGone(Exception):
    """The process ended during a task; `blames_image` if it worked on the image itself."""

    def __init__(self, *, blames_image: bool) -> None:
        super().__init__()
        self.blames_image = blames_image


class TaskChannel:
    """Tasks that wait for their reports.  For one event loop."""

    def __init__(
        self, parent_end: socket.socket, isolation: Isolation, *, on_lost: Callable[[], None]
    ) -> None:
        self._socket = parent_end
        self._forks = isolation is Isolation.PER_IMAGE
        self._on_lost = on_lost
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._loaded = self._expect(0)
        asyncio.get_running_loop().add_reader(parent_end.fileno(), self._receive)

    async def wait_loaded(self) -> None:
        """Wait until the model is loaded.  Raises `Refused`, `WorkerProcessGone`."""
        await self._loaded

    async def run(
        self, command: Command, *descriptors: int, deadline_s: float, timeout_s: float
    ) -> Outcome:
        """Send a task, and wait for its report.

        `deadline_s` is sent with the task, `timeout_s` is how long to wait for its report.
        Raises `TimeoutError`, `WorkerProcessGone`, or `OSError` if the task cannot be sent.
        Cancellation makes a zygote kill the child.
        """
        number = next(self._numbers)
        message = protocol.TASK.pack(command, number, deadline_s)
        socket.send_fds(self._socket, [message], descriptors)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._expect(number)
        except asyncio.CancelledError:
            if self._forks:
                self._cancel(number)
            raise
        finally:
            del self._waiting[number]

    def close(self) -> None:
        """Close the socket; tasks that wait raise `WorkerProcessGone`.  Idempotent."""
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerProcessGone(blames_image=not self._forks))

    def _expect(self, number: int) -> "asyncio.Future[Outcome]":
        self._waiting[number] = asyncio.get_running_loop().create_future()
        return self._waiting[number]

    def _cancel(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(protocol.TASK.pack(Command.CANCEL, number, 0.0))

    def _receive(self) -> None:
        try:
            if report := self._socket.recv(_REPORT_BYTES):
                self._resolve(*protocol.parse_report(report))
                return
        except BlockingIOError:
            return
        except (OSError, ProtocolViolation):
            pass
        self._on_lost()
        self.close()

    def _resolve(self, outcome: Outcome, number: int, untrusted_code: bytes) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if outcome is Outcome.REFUSED:
            future.set_exception(protocol.parse_start_error(untrusted_code))
        else:
            future.set_result(outcome)
