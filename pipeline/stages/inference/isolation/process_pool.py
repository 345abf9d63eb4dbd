"""Processes that do the work on images, so that no image can harm more than itself.

One image, one address space: a zygote, which has the model and never sees a picture, forks a
child for each, and the child ends with its image (`zygote.py`, `sandbox.py`).  A child that
crashes, runs into the deadline or answers nonsense yields one failed result.  One zygote for
all: the model's memory, which children share with it, is needed once and not for every core.

A zygote that ended, or is silent, is replaced in the background; the images of its children
are given to the next one, once.
"""

import asyncio
import contextlib

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.isolation.worker_process import (
    PROGRAM,
    WorkerProcess,
    WorkerProcessGone,
    WorkerProcessSettings,
)
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.pipeline.stages.inference.sandbox.restrictions import (
    Enforcement,
    Isolation,
    missing,
    refuse_unless_enforced,
)
from erasestream.schemas.errors import (
    ClientClosed,
    Code,
    ErasestreamError,
    InvalidImage,
    InvariantBroken,
    Refused,
)
from erasestream.schemas.options import CutoutOptions

DEADLINE_S = 60.0
"""The slowest picture that is taken (50 megapixels, WebP) needs a sixth of it on one core."""
START_DEADLINE_S = 120.0
"""Loading and warming up IS-Net takes 5 s on a free core."""
MEMORY_BYTES = 4 << 30
"""Of address space, of which a child uses 0.9 GB with IS-Net, and 1.9 GB with the largest
picture that is taken; that is 0.74 and 1.58 GB of memory."""

_TRIES = 2
"""An image that two zygotes ended with is not given to a third one."""
_START_TRIES = 3
_PAUSE_S = 1.0


class ProcessPool:
    """As many images as there are `children` are worked on side by side, others wait."""

    def __init__(
        self,
        *,
        model: Installed,
        children: int,
        deadline_s: float = DEADLINE_S,
        start_deadline_s: float = START_DEADLINE_S,
        memory_bytes: int = MEMORY_BYTES,
        isolation: Isolation = Isolation.PER_IMAGE,
        enforcement: Enforcement = Enforcement.REQUIRED,
        limits: Limits = LIMITS,
        program: str = PROGRAM,
    ) -> None:
        """`deadline_s` is for one image, and begins when a child is given it."""
        self.model = model
        per_image = isolation is Isolation.PER_IMAGE
        self._hosts_wanted, self._slots_of_each = (1, children) if per_image else (children, 1)
        self._settings = WorkerProcessSettings(
            model=model.folder.resolve(),
            memory_bytes=memory_bytes,
            deadline_s=deadline_s,
            start_deadline_s=start_deadline_s,
            isolation=isolation,
            enforcement=enforcement,
            limits=limits,
            program=program,
        )
        self._idle: asyncio.Queue[WorkerProcess | ErasestreamError] = asyncio.Queue()
        self._hosts: set[WorkerProcess] = set()
        self._keeping: set[asyncio.Task[None]] = set()
        self._is_open = False

    @property
    def pids(self) -> frozenset[int]:
        """The processes that live as long as the pool: of zygotes, their children do not."""
        return frozenset(host.pid for host in self._hosts)

    async def start(self) -> None:
        """Start the processes; a child of each has run the model once when this returns.

        Raises `Refused` (missing_model, model_refused, isolation_missing, misconfigured) if
        one does not start.
        """
        if self._is_open:
            return
        refuse_unless_enforced(self._settings.enforcement, missing())
        self._idle = asyncio.Queue()
        self._is_open = True
        starts = (self._add() for _ in range(self._hosts_wanted))
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            await self.close()
            raise errors[0]

    async def cut_out(self, image: bytes, options: CutoutOptions) -> CutoutImage:
        """Cut the background out of an image, as soon as a child is free for it.

        Raises `InvalidImage` with what is wrong with it, processing_crashed and
        processing_timeout included; `Refused` (closed); `InvariantBroken` if processes that
        ended can not be replaced.
        """
        for _ in range(_TRIES):
            host = await self._take()
            try:
                return await host.cut_out(image, options)
            except WorkerProcessGone as gone:
                if not self._is_open:
                    raise ClientClosed from gone
                if gone.blames_image:
                    break
            finally:
                # Its place in a process that has ended is not used again.
                if not host.gone.is_set():
                    self._idle.put_nowait(host)
        raise InvalidImage(code=Code.PROCESSING_CRASHED)

    async def close(self) -> None:
        """Kill all processes, and wait until the zygotes have ended.  What waits is refused."""
        self._is_open = False
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(host.end() for host in self._hosts))
        self._hosts.clear()
        self._idle.put_nowait(ClientClosed())

    async def _take(self) -> WorkerProcess:
        while self._is_open:
            taken = await self._idle.get()
            if isinstance(taken, ErasestreamError):
                # Whoever waits behind us is to know as well.
                self._idle.put_nowait(taken)
                raise type(taken)(taken.detail, code=taken.code) from taken
            if not taken.gone.is_set():
                return taken
        raise ClientClosed

    async def _add(self) -> None:
        host = await WorkerProcess.start(self._settings)
        self._hosts.add(host)
        for _ in range(self._slots_of_each):
            self._idle.put_nowait(host)
        task = asyncio.create_task(self._keep(host))
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    async def _keep(self, host: WorkerProcess) -> None:
        """Replace it when it has ended; what has no room for another may have it in a while."""
        await host.gone.wait()
        await host.end()
        self._hosts.discard(host)
        for _ in range(_START_TRIES - 1):
            with contextlib.suppress(Refused, OSError):
                await self._add()
                return
            await asyncio.sleep(_PAUSE_S)
        await self._add()

    def _kept(self, task: asyncio.Task[None]) -> None:
        """Whatever it failed with, nobody waits for what will not come."""
        self._keeping.discard(task)
        if not task.cancelled() and (error := task.exception()):
            broken = InvariantBroken("processes of the pool do not start any more")
            broken.__cause__ = error
            self._idle.put_nowait(broken)
