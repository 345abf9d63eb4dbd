"""A process that does the work, as the worker sees it: a socket, memory, and nothing believed.

Either a zygote with its children, or, long-lived, one that works itself.  It is the leader of
a process group, which is killed as one.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.isolation import protocol, shared_memory
from erasestream.pipeline.stages.inference.isolation.launch_config import LaunchConfig
from erasestream.pipeline.stages.inference.isolation.protocol import (
    Announced,
    Command,
    Outcome,
    ProtocolViolation,
    ReplyKind,
)
from erasestream.pipeline.stages.inference.sandbox.restrictions import Enforcement, Isolation
from erasestream.schemas.errors import Code, InvalidImage, InvariantBroken, Refused
from erasestream.schemas.options import CutoutOptions

PROGRAM = "erasestream.pipeline.stages.inference.isolation.zygote"
_PASSED_ON = ("PYTHONPATH", "LD_LIBRARY_PATH")
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # One core for each child; and a thread that exists early would stay unrestricted.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Set by the package as well, but nothing is to depend on the order of imports.
    "ORT_DISABLE_TELEMETRY": "1",
    "MALLOC_ARENA_MAX": "1",
}
_ALLOCATOR = {
    # A child of one image keeps what it frees until it ends, whatever its size: to fault pages
    # in anew for every layer costs a sixth of its time (measured with IS-Net in 8 bits).
    Isolation.PER_IMAGE: {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        # And takes it in pages of 2 MB, where the system lets programs ask for them: a child
        # faults in 200 MB, and by 4 KB that costs another sixth.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    },
    # Pixels of a finished picture go back to the kernel and not into the allocator's stock.
    Isolation.LONG_LIVED: {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
}
_GRACE_S = 5.0
"""A zygote that has not ended a child so long after its deadline is silent."""
_END_DEADLINE_S = 10.0
_FORK_TRIES, _PAUSE_S = 60, 0.5
_REPORT_BYTES = protocol.REPORT.size + 256


class WorkerProcessGone(Exception):
    """The process ended in the middle; `blames_image` if it worked on the image itself."""

    def __init__(self, *, blames_image: bool) -> None:
        super().__init__()
        self.blames_image = blames_image


@dataclass(frozen=True, kw_only=True)
class WorkerProcessSettings:
    """What a process is started with; `memory_bytes` bounds the address space of each.

    `program`: the module that runs; tests let one run that does something else with an image.
    """

    model: Path
    memory_bytes: int
    deadline_s: float
    start_deadline_s: float
    isolation: Isolation = Isolation.PER_IMAGE
    enforcement: Enforcement = Enforcement.REQUIRED
    limits: Limits = LIMITS
    program: str = PROGRAM


class WorkerProcess:
    """A running process, or group of them."""

    def __init__(
        self, process: Process, ours: socket.socket, settings: WorkerProcessSettings
    ) -> None:
        self._process = process
        self._socket = ours
        self._settings = settings
        self._is_alone = settings.isolation is Isolation.LONG_LIVED
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self.gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    @classmethod
    async def start(cls, settings: WorkerProcessSettings) -> "WorkerProcess":
        """Start one, and wait until a first child of it has run the model.

        Raises `Refused`: missing_model, model_refused, isolation_missing; misconfigured if it
        ends before.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        with theirs, contextlib.ExitStack() as if_it_fails:
            if_it_fails.enter_context(ours)
            process = await _started(settings, theirs.fileno())
            if_it_fails.pop_all()
        host = cls(process, ours, settings)
        try:
            async with asyncio.timeout(settings.start_deadline_s):
                await host._warm_up()
        except BaseException as error:
            await host.end()
            if isinstance(error, WorkerProcessGone | ProtocolViolation | TimeoutError):
                after = "in time" if isinstance(error, TimeoutError) else "but ended"
                raise Refused(f"a child process of the pool did not get ready {after}") from error
            raise
        return host

    async def cut_out(self, image: bytes, options: CutoutOptions) -> CutoutImage:
        """Have it done.

        Raises `InvalidImage` as the child says, processing_timeout or processing_crashed;
        `WorkerProcessGone`.
        """
        with (
            shared_memory.holding(*protocol.request(image, options)) as request,
            shared_memory.room_for(protocol.ANSWER_BYTES) as answer,
        ):
            how = await self._begun(Command.CUT_OUT, self._settings.deadline_s, request, answer)
            if how is Outcome.EXPIRED:
                raise InvalidImage(code=Code.PROCESSING_TIMEOUT)
            if how is Outcome.CRASHED:
                raise InvalidImage(code=Code.PROCESSING_CRASHED)
            try:
                return cutout_in(answer, options, self._settings.limits)
            except ProtocolViolation as error:
                if self._is_alone:
                    self._kill()
                raise InvalidImage(code=Code.PROCESSING_CRASHED) from error

    async def end(self) -> None:
        """Kill it with all its children, and wait until it has ended."""
        self._kill()
        self._disconnect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_DEADLINE_S):
                await self._process.wait()

    async def _warm_up(self) -> None:
        loaded = asyncio.get_running_loop().create_future()
        self._waiting[0] = loaded
        await loaded
        with (
            shared_memory.holding(b"\0") as request,
            shared_memory.room_for(protocol.ANSWER_BYTES) as answer,
        ):
            await self._begun(Command.WARM_UP, self._settings.start_deadline_s, request, answer)
            kind = protocol.kind_of(shared_memory.copied(answer, protocol.KIND.size, 0))
            if kind is ReplyKind.REFUSED:
                raise Refused(code=_code(answer, protocol.MODEL_CODES))
            if kind is not ReplyKind.READY:
                raise ProtocolViolation("order")

    async def _begun(self, what: Command, deadline_s: float, *descriptors: int) -> Outcome:
        """As `_done`; asks again while there is no process, and then raises `InvariantBroken`."""
        for _ in range(_FORK_TRIES):
            how = await self._done(what, deadline_s, *descriptors)
            if how is not Outcome.NOT_BEGUN:
                return how
            if self._is_alone:  # it needs no child, and must not end the worker
                self._kill()
                raise WorkerProcessGone(blames_image=True)
            await asyncio.sleep(_PAUSE_S)
        raise InvariantBroken("the system has no process for a child any more")

    async def _done(self, what: Command, deadline_s: float, *descriptors: int) -> Outcome:
        """Have a task done.  Raises `WorkerProcessGone`."""
        self._number += 1
        number = self._number
        try:
            socket.send_fds(
                self._socket, [protocol.TASK.pack(what, number, deadline_s)], descriptors
            )
        except OSError as error:
            self._kill()
            raise WorkerProcessGone(blames_image=False) from error
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(deadline_s + (0 if self._is_alone else _GRACE_S)):
                return await self._waiting[number]
        except TimeoutError:
            self._kill()
            return Outcome.EXPIRED
        except asyncio.CancelledError:
            self._give_up(number)
            raise
        finally:
            self._waiting.pop(number, None)

    def _give_up(self, number: int) -> None:
        if self._is_alone:
            self._kill()
        else:
            with contextlib.suppress(OSError):
                self._socket.send(protocol.TASK.pack(Command.CANCEL, number, 0.0))

    def _hear(self) -> None:
        """A report came, or the end."""
        try:
            report = self._socket.recv(_REPORT_BYTES)
            if not report:
                self._lose()
                return
            how, number, code = protocol.parse_report(report)
            future = self._waiting.get(number)
            if future is None or future.done():
                return  # nobody waits for it any more
            if how is Outcome.REFUSED:
                future.set_exception(Refused(code=protocol.code_of(code, protocol.MODEL_CODES)))
            else:
                future.set_result(how)
        except BlockingIOError:
            return
        except (OSError, ProtocolViolation):
            self._lose()

    def _lose(self) -> None:
        self._kill()
        self._disconnect()

    def _kill(self) -> None:
        self.gone.set()
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)

    def _disconnect(self) -> None:
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerProcessGone(blames_image=self._is_alone))


async def _started(settings: WorkerProcessSettings, descriptor: int) -> Process:
    setup = LaunchConfig(
        model=settings.model,
        parent=os.getpid(),
        socket=descriptor,
        memory_bytes=settings.memory_bytes,
        isolation=settings.isolation,
        enforcement=settings.enforcement,
        limits=settings.limits,
    )
    # -P: what lies in the working directory is not imported by accident.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", settings.program, setup.model_dump_json()),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(descriptor,),
        start_new_session=True,
        env=_environment(settings.isolation),
    )


def cutout_in(answer: int, options: CutoutOptions, limits: Limits = LIMITS) -> CutoutImage:
    """The worker's own copy of what a child that has ended left; or `ProtocolViolation`."""
    match protocol.kind_of(shared_memory.copied(answer, protocol.KIND.size, 0)):
        case ReplyKind.CUTOUT:
            head_at = protocol.KIND.size
            head = Announced.parse(shared_memory.copied(answer, protocol.CUTOUT.size, head_at))
            data = shared_memory.copied(answer, head.data_bytes, head_at + protocol.CUTOUT.size)
            return head.cutout(data, options)
        case ReplyKind.REFUSED:
            code = _code(answer, protocol.IMAGE_CODES)
            raise InvalidImage(limits.said_of(code), code=code)
        case _:
            raise ProtocolViolation("order")


def _code(answer: int, allowed: frozenset[Code]) -> Code:
    at = protocol.KIND.size
    (length,) = protocol.CODE.unpack(shared_memory.copied(answer, protocol.CODE.size, at))
    return protocol.code_of(shared_memory.copied(answer, length, at + protocol.CODE.size), allowed)


def _environment(isolation: Isolation) -> dict[str, str]:
    """Nothing of the worker's own: settings and secrets are not a child's business."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return _ENVIRONMENT | _ALLOCATOR[isolation] | passed_on
