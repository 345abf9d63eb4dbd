"""A worker process as the parent sees it: a socket, memory, and replies that are not trusted.

Either a zygote with its children or, long-lived, a process that runs tasks itself.  It leads a
process group, which is killed as a whole.

* A task that does not end in time, or whose report does not come, fails with its image.
* A process is killed, and `gone` is set, when it is silent beyond a deadline, cannot be sent a
  task, closes its socket or breaks the protocol; also when a long-lived one writes a reply that
  cannot be trusted, or its task is cancelled.  It is not used again.
* A zygote that cannot fork is asked again.
"""

import asyncio
import contextlib
import os
import signal
import socket
from asyncio.subprocess import Process

from erasestream.pipeline.runtime.retry import PausedAttempts
from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.isolation import protocol, shared_memory
from erasestream.pipeline.stages.inference.isolation.launch import WorkerProcessSettings, launch
from erasestream.pipeline.stages.inference.isolation.protocol import (
    Command,
    ImageJob,
    Outcome,
    ProtocolViolation,
)
from erasestream.pipeline.stages.inference.isolation.replies import check_ready, read_cutout
from erasestream.pipeline.stages.inference.isolation.task_channel import (
    TaskChannel,
    WorkerProcessGone,
)
from erasestream.schemas.errors import Code, InvalidImage, InvariantBroken, Refused

_GRACE_S = 5.0
"""A zygote that has not ended a child this long after its deadline is silent."""
_END_DEADLINE_S = 10.0
_FORK_ATTEMPTS, _FORK_RETRY_S = 60, 0.5


class WorkerProcess:
    """A running process, with its group."""

    def __init__(
        self, process: Process, parent_end: socket.socket, settings: WorkerProcessSettings
    ) -> None:
        self._process = process
        self._settings = settings
        self._is_long_lived = settings.isolation is Isolation.LONG_LIVED
        self.gone: asyncio.Event = asyncio.Event()
        self._channel = TaskChannel(parent_end, settings.isolation, on_lost=self._kill)

    @property
    def pid(self) -> int:
        """Process id, and id of its group."""
        return self._process.pid

    @classmethod
    async def start(cls, settings: WorkerProcessSettings) -> "WorkerProcess":
        """Start a process, and wait until it, or a first child of it, has run the model.

        Raises `Refused`: missing_model, model_refused, isolation_missing; misconfigured if it
        ends before it is ready, or is not ready in time.  Whatever it raises, the process has
        ended and its descriptors are closed.
        """
        async with contextlib.AsyncExitStack() as opened:
            parent_end, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.enter_context(parent_end)
            with child_end:
                parent_end.settimeout(0)
                process = await launch(settings, child_end.fileno())
            opened.push_async_callback(_end_group, process)
            worker_process = cls(process, parent_end, settings)
            opened.callback(worker_process._channel.close)
            await worker_process._become_ready()
            opened.pop_all()
        return worker_process

    async def cut_out(self, job: ImageJob, *, small_s: float, deadline_s: float) -> CutoutImage:
        """Cut the background out of an image, within `deadline_s`; `small_s`: a small one's.

        Raises `InvalidImage` with the child's code, processing_timeout or processing_crashed;
        `WorkerProcessGone`; `InvariantBroken` if the system has no process for a child.
        """
        with (
            shared_memory.holding(*protocol.encode_request(job, small_s)) as request,
            shared_memory.allocated(protocol.REPLY_BYTES) as reply,
        ):
            outcome = await self._run(Command.CUT_OUT, request, reply, deadline_s)
            if outcome is Outcome.TIMED_OUT:
                raise InvalidImage(code=Code.PROCESSING_TIMEOUT)
            if outcome is Outcome.CRASHED:
                raise InvalidImage(code=Code.PROCESSING_CRASHED)
            try:
                return read_cutout(reply, job, self._settings.limits)
            except ProtocolViolation as error:
                if self._is_long_lived:
                    self._kill()
                raise InvalidImage(code=Code.PROCESSING_CRASHED) from error

    async def end(self) -> None:
        """Kill the process with its children, and wait until it has ended."""
        self.gone.set()
        self._channel.close()
        await _end_group(self._process)

    async def _become_ready(self) -> None:
        try:
            async with asyncio.timeout(self._settings.start_deadline_s):
                await self._channel.wait_loaded()
                await self._warm_up()
        except TimeoutError as error:
            raise Refused("a worker process is not ready in time: check the load") from error
        except (WorkerProcessGone, ProtocolViolation) as error:
            raise Refused("a worker process ended and was not ready: see the log") from error

    async def _warm_up(self) -> None:
        with (
            shared_memory.holding(b"\0") as request,
            shared_memory.allocated(protocol.REPLY_BYTES) as reply,
        ):
            await self._run(Command.WARM_UP, request, reply, self._settings.start_deadline_s)
            check_ready(reply)

    async def _run(self, command: Command, request: int, reply: int, deadline_s: float) -> Outcome:
        """Run a task, again while the zygote cannot fork, which then raises `InvariantBroken`."""
        async for _ in PausedAttempts(_FORK_RETRY_S, most=_FORK_ATTEMPTS):
            outcome = await self._run_once(command, request, reply, deadline_s)
            if outcome is not Outcome.FORK_FAILED:
                return outcome
            if self._is_long_lived:  # it forks no children, and must not end the parent
                self._kill()
                raise WorkerProcessGone(blames_image=True)
        raise InvariantBroken("the system has no process for a child any more")

    async def _run_once(
        self, command: Command, request: int, reply: int, deadline_s: float
    ) -> Outcome:
        timeout_s = deadline_s + (0 if self._is_long_lived else _GRACE_S)
        try:
            return await self._channel.run(
                command, request, reply, deadline_s=deadline_s, timeout_s=timeout_s
            )
        except TimeoutError:
            self._kill()
            return Outcome.TIMED_OUT
        except OSError as error:
            self._kill()
            raise WorkerProcessGone(blames_image=False) from error
        except asyncio.CancelledError:
            if self._is_long_lived:
                self._kill()
            raise

    def _kill(self) -> None:
        self.gone.set()
        _kill_group(self._process)


def _kill_group(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


async def _end_group(process: Process) -> None:
    _kill_group(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_DEADLINE_S):
            await process.wait()
