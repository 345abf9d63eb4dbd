"""A budget of records, bytes and children for the records that are worked on ahead.

* A record begins if it fits, or if nothing else is held: one upload is taken whatever its size.
* Making a result needs a free child, and that the held bytes do not exceed the budget, unless
  the record is the first of its partition: small uploads may have large results, but what is
  held waits for the first ones, which must not wait for it.
* A result counts once it exists, so each child can exceed the budget by one result, and so can
  the first record of each partition.
* Waiters look again, the oldest first, whenever something becomes free.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

MAX_BYTES = 128_000_000
"""Uploads and their results.  Each child can exceed this by one result, and so can the first
record of each partition (64 MB at most)."""
MAX_COUNT = 64
"""Records: a worker that loses its partitions has worked on as many in vain."""

_Task = asyncio.Task[None]


class LookAheadBudget:
    """Bytes held by each task, and the children that are free.  For one event loop."""

    def __init__(self, *, children: int, max_bytes: int, max_count: int) -> None:
        self._free_children = children
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._held: dict[_Task, int] = {}
        self._freed = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Bytes of the uploads and results that are held now."""
        return sum(self._held.values())

    async def wait_for_room(self, more_bytes: int) -> None:
        """Wait until another record fits."""
        while not self._has_room_for(more_bytes):
            await self._freed.wait()

    def hold(self, task: _Task, count: int) -> None:
        """Count bytes that are held for a task, in addition to those counted before."""
        self._held[task] = self._held.get(task, 0) + count

    def release(self, task: _Task) -> None:
        """Free the bytes of a task."""
        del self._held[task]
        self._wake_waiters()

    @asynccontextmanager
    async def child(self, *, is_first: Callable[[], bool]) -> AsyncIterator[None]:
        """Occupy a child, as soon as one is free and the budget allows."""
        while not self._free_children or not (self.held_bytes <= self._max_bytes or is_first()):
            await self._freed.wait()
        self._free_children -= 1
        try:
            yield
        finally:
            self._free_children += 1
            self._wake_waiters()

    def _has_room_for(self, more_bytes: int) -> bool:
        if not self._held:
            return True
        fits = self.held_bytes + more_bytes <= self._max_bytes
        return fits and len(self._held) < self._max_count

    def _wake_waiters(self) -> None:
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()
