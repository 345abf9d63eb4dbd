"""Children that do the work on images, so that no image can harm more than itself.

A child that crashes, runs into the deadline or answers nonsense yields one failed result, is
killed, and is replaced in the background.  It never takes a second image with it: each works
on one at a time, and an image that a child had not yet taken whole is given to another one.

What this does not give yet: a child lives for many images, and can open files and sockets.
"""

import asyncio
import contextlib

from erasestream.pipeline.inference.child_process import Child, ChildGone, ChildSettings
from erasestream.pipeline.inference.frames import CutoutImage, Untrustworthy
from erasestream.pipeline.inference.manifest import Installed
from erasestream.schemas.errors import (
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
"""Of address space, of which a child uses 0.9 GB with IS-Net, and 1.6 GB with the largest
picture that is taken; that is 0.74 and 1.35 GB of memory."""

_TRIES = 2
"""An image that two children ended with before they had it whole is at fault itself."""
_START_TRIES = 3
_PAUSE_S = 1.0


class Pool:
    """A fixed number of children; as many images are worked on side by side, others wait."""

    def __init__(
        self,
        *,
        model: Installed,
        children: int,
        deadline_s: float = DEADLINE_S,
        start_deadline_s: float = START_DEADLINE_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """`deadline_s` is for one image, and begins when a child is given it."""
        self.model = model
        self._count = children
        self._deadline_s = deadline_s
        self._settings = ChildSettings(
            model=model.folder.resolve(),
            memory_bytes=memory_bytes,
            start_deadline_s=start_deadline_s,
        )
        self._idle: asyncio.Queue[Child | ErasestreamError] = asyncio.Queue()
        self._children: set[Child] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._is_open = False

    @property
    def pids(self) -> frozenset[int]:
        """The processes of the children that live now."""
        return frozenset(child.pid for child in self._children)

    async def start(self) -> None:
        """Start the children; all have run the model once when this returns.

        Raises `Refused` (missing_model, model_refused, misconfigured) if one does not start.
        """
        if self._is_open:
            return
        self._idle = asyncio.Queue()
        self._is_open = True
        starts = (self._add() for _ in range(self._count))
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            await self.close()
            raise errors[0]

    async def cut_out(self, image: bytes, options: CutoutOptions) -> CutoutImage:
        """Cut the background out of an image, as soon as a child is free.

        Raises `InvalidImage` with what is wrong with it, processing_crashed and
        processing_timeout included; `Refused` (closed); `InvariantBroken` if children that
        ended can not be replaced.
        """
        for _ in range(_TRIES):
            child = await self._take()
            try:
                return await self._work(child, image, options)
            except ChildGone as gone:
                if not self._is_open:
                    raise Refused(code=Code.CLOSED) from gone
                if gone.had_image:
                    break
        raise InvalidImage(code=Code.PROCESSING_CRASHED)

    async def close(self) -> None:
        """End all children, and wait until they have ended.  What waits is refused."""
        self._is_open = False
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in self._children))
        self._children.clear()
        self._idle.put_nowait(Refused(code=Code.CLOSED))

    async def _take(self) -> Child:
        if not self._is_open:
            raise Refused(code=Code.CLOSED)
        taken = await self._idle.get()
        if isinstance(taken, ErasestreamError):
            # Whoever waits behind us is to know as well.
            self._idle.put_nowait(taken)
            raise type(taken)(taken.detail, code=taken.code)
        return taken

    async def _work(self, child: Child, image: bytes, options: CutoutOptions) -> CutoutImage:
        is_reusable = False
        try:
            async with asyncio.timeout(self._deadline_s):
                cutout = await child.cut_out(image, options)
            is_reusable = True
        except InvalidImage:
            is_reusable = True
            raise
        except TimeoutError as error:
            raise InvalidImage(code=Code.PROCESSING_TIMEOUT) from error
        except Untrustworthy as error:
            raise InvalidImage(code=Code.PROCESSING_CRASHED) from error
        finally:
            # Also if our caller gave up: an answer that nobody waits for must not be the next's.
            if is_reusable:
                self._idle.put_nowait(child)
            elif self._is_open:
                task = asyncio.create_task(self._replace(child))
                self._replacing.add(task)
                task.add_done_callback(self._replacing.discard)
        return cutout

    async def _add(self) -> None:
        child = await Child.start(self._settings)
        self._children.add(child)
        self._idle.put_nowait(child)

    async def _replace(self, child: Child) -> None:
        await child.end()
        self._children.discard(child)
        for _ in range(_START_TRIES):
            with contextlib.suppress(Refused):
                await self._add()
                return
            await asyncio.sleep(_PAUSE_S)
        self._idle.put_nowait(InvariantBroken("children of the pool do not start any more"))
