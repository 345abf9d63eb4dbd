"""One child as the worker sees it: a process, two pipes, and nothing that is believed."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

from erasestream.pipeline.inference import frames
from erasestream.pipeline.inference.frames import Announced, CutoutImage, Kind, Untrustworthy
from erasestream.schemas.errors import Code, InvalidImage, Refused
from erasestream.schemas.options import CutoutOptions

_MODULE = "erasestream.pipeline.inference.child"
_PASSED_ON = ("PYTHONPATH", "LD_LIBRARY_PATH")
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # One core for each child.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Pixels of a finished picture go back to the kernel and not into the allocator's stock.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}
_BUFFER_BYTES = 1 << 20
_END_DEADLINE_S = 10.0


class ChildGone(Exception):
    """The child ended in the middle of its work; `had_image` if it had the whole image."""

    def __init__(self, *, had_image: bool) -> None:
        super().__init__()
        self.had_image = had_image


@dataclass(frozen=True, kw_only=True)
class ChildSettings:
    """What a child is started with; `memory_bytes` bounds its address space."""

    model: Path
    memory_bytes: int
    start_deadline_s: float


class Child:
    """A running child.  For one image at a time."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a child is started with pipes")
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout
        self._reading = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @classmethod
    async def start(cls, settings: ChildSettings) -> "Child":
        """Start one and wait until it has run the model once.

        Raises `Refused`: missing_model, model_refused, misconfigured if it ends before.
        """
        arguments = (str(settings.model), str(os.getpid()), str(settings.memory_bytes))
        # -P: what lies in the working directory is not imported by accident.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE, *arguments),
            stdin=PIPE,
            stdout=PIPE,
            limit=_BUFFER_BYTES,
            env=_environment(),
        )
        child = cls(process)
        try:
            async with asyncio.timeout(settings.start_deadline_s):
                await child._ready()
        except BaseException as error:
            await child.end()
            if isinstance(error, ChildGone | Untrustworthy | TimeoutError):
                after = "in time" if isinstance(error, TimeoutError) else "but ended"
                raise Refused(f"a child process of the pool did not get ready {after}") from error
            raise
        return child

    async def cut_out(self, image: bytes, options: CutoutOptions) -> CutoutImage:
        """Raises `InvalidImage` as the child says, `ChildGone`, or `Untrustworthy`."""
        async with self._reading:
            return await self._exchange(image, options)

    async def end(self) -> None:
        """Kill it, and wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._requests.close()
        # Its pipe is read to the end: only then the event loop knows that it has ended.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_DEADLINE_S), self._reading:
                while await self._answers.read(_BUFFER_BYTES):
                    pass
                await self._process.wait()

    async def _exchange(self, image: bytes, options: CutoutOptions) -> CutoutImage:
        had_image = False
        try:
            for piece in frames.request(image, options):
                self._requests.write(piece)
            await self._requests.drain()
            if await self._kind() is not Kind.RECEIVED:
                raise Untrustworthy("order")
            had_image = True
            match await self._kind():
                case Kind.CUTOUT:
                    head = Announced.parse(await self._answers.readexactly(frames.CUTOUT.size))
                    return head.cutout(await self._answers.readexactly(head.data_bytes), options)
                case Kind.REFUSED:
                    raise InvalidImage(code=await self._code(frames.IMAGE_CODES))
                case _:
                    raise Untrustworthy("order")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChildGone(had_image=had_image) from error

    async def _ready(self) -> None:
        try:
            match await self._kind():
                case Kind.READY:
                    return
                case Kind.REFUSED:
                    raise Refused(code=await self._code(frames.MODEL_CODES))
                case _:
                    raise Untrustworthy("order")
        except asyncio.IncompleteReadError as error:
            raise ChildGone(had_image=False) from error

    async def _kind(self) -> Kind:
        return frames.kind_of(await self._answers.readexactly(frames.KIND.size))

    async def _code(self, allowed: frozenset[Code]) -> Code:
        (length,) = frames.CODE.unpack(await self._answers.readexactly(frames.CODE.size))
        return frames.code_of(await self._answers.readexactly(length), allowed)


def _environment() -> dict[str, str]:
    """Nothing of the worker's own: settings and secrets are not a child's business."""
    return _ENVIRONMENT | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
