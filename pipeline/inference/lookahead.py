"""Works ahead on many records, and hands them over in order: a batch waits for no straggler.

Within a partition results leave in the order of their uploads, so one that takes long holds
back those behind it, finished as they may be, and nobody else: the children of the pool go on
with whatever comes next, of any partition, within a budget of bytes and of records.

The budget is looked at before a record is begun, and again when a child is free for it: small
uploads may have large results.  The first of each partition is always made, since what is held
may wait for nothing else; so nothing waits for ever.

Pure but for asyncio.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple, cast

from erasestream.schemas.cloudevents import Wire

MAX_BYTES = 128_000_000
"""Of uploads and of the results held for them; one upload is taken whatever its size.  A result
is counted when it is there: each child can exceed this by one, and so can the first of each
partition (64 MB at most)."""
MAX_COUNT = 64
"""Records: what a worker has begun is begun anew when its partitions go to another."""


class Work(NamedTuple):
    """What is to be done for one record."""

    order: Hashable
    """Records with the same are handed over one after the other, as they were added."""
    held_bytes: int
    make: Callable[[], Awaitable[Wire]]
    hand_over: Callable[[Wire], Awaitable[None]]
    is_wanted: Callable[[], bool]
    """Whether it is still to be done.  If not, those behind it are not either."""


class LookAhead:
    """The records that are worked on, or wait to be handed over."""

    def __init__(
        self,
        *,
        on_failure: Callable[[BaseException], None],
        children: int,
        max_bytes: int = MAX_BYTES,
        max_count: int = MAX_COUNT,
    ) -> None:
        """`children`: as many are made at once.

        `on_failure` is told of an error at once; nothing behind it is handed over.
        """
        self._on_failure = on_failure
        self._free = children
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._held_bytes = 0
        self._last: dict[Hashable, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_handed_over: dict[asyncio.Task[None], Work] = {}
        self._freed = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Of uploads and results that are held now."""
        return self._held_bytes

    async def add(self, work: Work) -> None:
        """Begin with it as soon as there is room; returns when it has begun.  One caller."""
        while not self._has_room_for(work.held_bytes):
            await self._freed.wait()
        if not work.is_wanted():
            return
        self._held_bytes += work.held_bytes
        task = asyncio.create_task(self._do(work, self._last.get(work.order)))
        self._tasks.add(task)
        self._not_handed_over[task] = work
        self._last[work.order] = task
        task.add_done_callback(self._done)

    def give_up_unwanted(self) -> None:
        """End what is not wanted any more; what is being handed over goes on."""
        for task, work in self._not_handed_over.items():
            if not work.is_wanted():
                task.cancel()

    def _has_room_for(self, more: int) -> bool:
        if not self._tasks:
            return True
        return self._held_bytes + more <= self._max_bytes and len(self._tasks) < self._max_count

    async def _do(self, work: Work, before: asyncio.Task[None] | None) -> None:
        held = work.held_bytes
        try:
            wire = await self._made(work, before)
            held += len(wire.value)
            if before:
                await _end_of(before)
            self._not_handed_over.pop(cast("asyncio.Task[None]", asyncio.current_task()))
            await work.hand_over(wire)
        finally:
            self._held_bytes -= held

    async def _made(self, work: Work, before: asyncio.Task[None] | None) -> Wire:
        """Its result, which is counted; when a child is free, and there is room or it is first."""
        while not self._free or not (
            self._held_bytes <= self._max_bytes or before is None or before.done()
        ):
            await self._freed.wait()
        self._free -= 1
        try:
            wire = await work.make()
            self._held_bytes += len(wire.value)
        finally:
            self._free += 1
            self._tell()
        return wire

    def _tell(self) -> None:
        """Those that wait look again, the oldest first."""
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._not_handed_over.pop(task, None)
        self._tell()
        if not task.cancelled() and (error := task.exception()):
            self._on_failure(error)


async def _end_of(before: asyncio.Task[None]) -> None:
    """Wait for it, without ending it when the one that waits is ended; raises its error."""
    await asyncio.wait([before])
    if not before.cancelled():
        before.result()
