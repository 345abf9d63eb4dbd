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
from functools import partial
from typing import NamedTuple, cast

from erasestream.schemas.codec.cloudevents import Wire

MAX_BYTES = 128_000_000
"""Of uploads and of the results held for them; one upload is taken whatever its size.  A result
is counted when it is there: each child can exceed this by one, and so can the first of each
partition (64 MB at most)."""
MAX_COUNT = 64
"""Records: what a worker has begun is begun anew when its partitions go to another."""


_Task = asyncio.Task[None]


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
        self._held: dict[_Task, int] = {}
        """Of each work the bytes that are held for it."""
        self._not_handed_over: dict[_Task, Work] = {}
        self._handed_over: dict[Hashable, _Task] = {}
        """Of each order the one that is on its way."""
        self._last: dict[Hashable, _Task] = {}
        """Of each order the one behind which the next is handed over."""
        self._freed = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Of uploads and results that are held now."""
        return sum(self._held.values())

    async def add(self, work: Work) -> None:
        """Begin with it as soon as there is room; returns when it has begun.  One caller."""
        while not self._has_room_for(work.held_bytes):
            await self._freed.wait()
        if not work.is_wanted():
            return
        task = asyncio.create_task(self._do(work, self._last.get(work.order)))
        self._held[task] = work.held_bytes
        self._not_handed_over[task] = work
        self._last[work.order] = task
        task.add_done_callback(partial(self._done, work.order))

    def give_up_unwanted(self) -> None:
        """End what is not wanted any more.  What is on its way goes on; the next waits for it."""
        for task, work in self._not_handed_over.items():
            if not work.is_wanted():
                task.cancel()
                self._last.pop(work.order, None)
                if on_its_way := self._handed_over.get(work.order):
                    self._last[work.order] = on_its_way

    def _has_room_for(self, more: int) -> bool:
        if not self._held:
            return True
        return self.held_bytes + more <= self._max_bytes and len(self._held) < self._max_count

    async def _do(self, work: Work, before: _Task | None) -> None:
        task = cast("_Task", asyncio.current_task())
        wire = await self._made(work, task, before)
        if before:
            await asyncio.wait([before])  # and not itself: it goes on if this one is given up
            before.result()
        del self._not_handed_over[task]
        self._handed_over[work.order] = task
        await work.hand_over(wire)

    async def _made(self, work: Work, task: _Task, before: _Task | None) -> Wire:
        """Its result, which is counted; when a child is free, and there is room or it is first."""
        while not self._free or not (
            self.held_bytes <= self._max_bytes or before is None or before.done()
        ):
            await self._freed.wait()
        self._free -= 1
        try:
            wire = await work.make()
            self._held[task] += len(wire.value)
        finally:
            self._free += 1
            self._tell()
        return wire

    def _tell(self) -> None:
        """Those that wait look again, the oldest first."""
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()

    def _done(self, order: Hashable, task: _Task) -> None:
        del self._held[task]
        self._not_handed_over.pop(task, None)
        for of_order in (self._handed_over, self._last):
            if of_order.get(order) is task:
                del of_order[order]
        self._tell()
        # To ask is also what lets a task go of what it held when it was cancelled.
        try:
            task.result()
        except asyncio.CancelledError:
            return
        except BaseException as error:  # noqa: BLE001 - told, and not raised into the loop
            self._on_failure(error)
