"""Processes that cut out images, so that no image can harm another.

One image, one address space: a zygote, which has the model and never sees a picture, forks a
child for each image, and the child ends with its image (`zygote.py`, `restrictions.py`).  A child
that crashes, exceeds its deadline or breaks the protocol yields one failed result.  One zygote
serves all children: they share the model's memory, which is needed once and not once per core.

A zygote that has ended or is silent is replaced in the background; the images of its children
are given to the next one, once.
"""

import contextlib
import time

from erasestream.pipeline.runtime.sandbox.restrictions import (
    Enforcement,
    Isolation,
    missing,
    refuse_unless_enforced,
)
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.isolation.free_children import FreeChildren
from erasestream.pipeline.stages.inference.isolation.launch import PROGRAM, WorkerProcessSettings
from erasestream.pipeline.stages.inference.isolation.protocol import ImageJob
from erasestream.pipeline.stages.inference.isolation.supervisor import Supervisor
from erasestream.pipeline.stages.inference.isolation.task_channel import WorkerProcessGone
from erasestream.pipeline.stages.inference.isolation.time_limits import (
    DEADLINE_S,
    SlowImages,
    deadline_of,
    longest_deadline,
)
from erasestream.pipeline.stages.inference.isolation.worker_process import WorkerProcess
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import (
    ClientClosed,
    Code,
    InvalidImage,
    InvariantBroken,
)
from erasestream.schemas.options import CutoutOptions

START_DEADLINE_S = 120.0
"""Loading and warming up IS-Net takes 5 s on a free core."""

_ATTEMPTS = 2
"""An image that two zygotes ended with is not given to a third one."""


class ProcessPool:
    """Works on as many images at once as it has `children`; others wait, and begin in order."""

    def __init__(
        self,
        *,
        model: Installed,
        children: int,
        deadline_s: float = DEADLINE_S,
        start_deadline_s: float = START_DEADLINE_S,
        memory_bytes: int | None = None,
        isolation: Isolation = Isolation.PER_IMAGE,
        enforcement: Enforcement = Enforcement.REQUIRED,
        limits: Limits = LIMITS,
        program: str = PROGRAM,
        slow_images: SlowImages | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`deadline_s` is for a small image (see `time_limits`), from when a child gets it.

        `memory_bytes` is the address space of each process, by default that of the model.
        """
        self.model = model
        per_image = isolation is Isolation.PER_IMAGE
        self._processes, self._children_each = (1, children) if per_image else (children, 1)
        self._enforcement = enforcement
        self._deadline_s = deadline_s
        self._slow_images = slow_images or SlowImages()
        self._clock = clock
        self._supervisor = Supervisor(
            WorkerProcessSettings(
                model=model.folder.resolve(),
                memory_bytes=memory_bytes or model.manifest.memory_bytes,
                start_deadline_s=start_deadline_s,
                isolation=isolation,
                enforcement=enforcement,
                limits=limits,
                program=program,
            ),
            on_started=self._add_children,
            on_failed=self._fail,
        )
        self._free = FreeChildren()
        self._is_open = False

    @property
    def pids(self) -> frozenset[int]:
        """Ids of the worker processes, without the zygotes' children."""
        return self._supervisor.pids

    async def start(self) -> None:
        """Start the processes; each, or a child of it, has run the model when this returns.

        Raises `Refused` (missing_model, model_refused, isolation_missing, misconfigured) if
        one does not start; then none is left.
        """
        if self._is_open:
            return
        refuse_unless_enforced(self._enforcement, missing())
        self._free = FreeChildren()
        self._is_open = True
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(self.close)
            await self._supervisor.start(self._processes)
            opened.pop_all()

    async def cut_out(
        self,
        image: bytes | memoryview,
        options: CutoutOptions,
        ciphers: ImageCiphers | None = None,
    ) -> CutoutImage:
        """Cut the background out of an image, as soon as a child is free for it.

        With ciphers, `image` is the body of a sealed one, and the result has that of the sealed
        cut-out.

        Raises `InvalidImage` with its code, processing_crashed and processing_timeout included;
        `Refused` (closed); `InvariantBroken` if processes that ended cannot be replaced.
        """
        job, small_s = ImageJob(image, options, ciphers), self._deadline_s
        deadline_s = longest_deadline(small_s) if ciphers else deadline_of(bytes(image), small_s)
        for _ in range(_ATTEMPTS):
            if not self._is_open:
                raise ClientClosed
            process = await self._free.take()
            begun = self._clock()
            try:
                return await process.cut_out(job, small_s=small_s, deadline_s=deadline_s)
            except WorkerProcessGone as gone:
                if not self._is_open:
                    raise ClientClosed from gone
                if gone.blames_image:
                    break
            finally:
                # Of a sealed image the size is unknown here.
                share_of_s = small_s if ciphers else deadline_s
                self._slow_images.add_if_slow(self._clock() - begun, deadline_s=share_of_s)
                # The children of a process that has ended are not used again.
                if not process.gone.is_set():
                    self._free.add(process)
        raise InvalidImage(code=Code.PROCESSING_CRASHED)

    async def close(self) -> None:
        """Kill all processes, and wait until they have ended.  Images that wait are refused."""
        self._is_open = False
        await self._supervisor.close()
        self._free.fail(ClientClosed())

    def _add_children(self, process: WorkerProcess) -> None:
        for _ in range(self._children_each):
            self._free.add(process)

    def _fail(self, error: BaseException) -> None:
        """Refuse the images that wait: no child will become free."""
        broken = InvariantBroken("processes of the pool cannot be started any more")
        broken.__cause__ = error
        self._free.fail(broken)
