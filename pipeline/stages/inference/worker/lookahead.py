"""Work ahead on many records, and deliver their results in order.

Within a partition, results are delivered in the order of their uploads, so a slow image holds
back the results behind it, even finished ones, but those of no other partition: the children of
the pool go on with the next records of any partition, within a budget (`lookahead_budget.py`,
`delivery_order.py`).

* The first record of each partition is always made, since everything that is held may wait for
  it: nothing waits forever.
* Nothing is delivered behind a record that failed.
* A record that is no longer wanted is cancelled, unless its delivery has begun.

Pure but for asyncio.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import NamedTuple, cast

from erasestream.pipeline.stages.inference.worker.delivery_order import DeliveryOrder
from erasestream.pipeline.stages.inference.worker.lookahead_budget import (
    MAX_BYTES,
    MAX_COUNT,
    LookAheadBudget,
)
from erasestream.schemas.codec.cloudevents import Wire

_Task = asyncio.Task[None]


class Job(NamedTuple):
    """The work for one record."""

    order: Hashable
    """Jobs with the same order are delivered one after another, as they were added."""
    held_bytes: int
    make: Callable[[], Awaitable[Wire]]
    deliver: Callable[[Wire], Awaitable[None]]
    is_wanted: Callable[[], bool]
    """Whether the job is still to be done.  If not, neither are those behind it."""


class LookAhead:
    """The records that are worked on, or wait to be delivered."""

    def __init__(
        self,
        *,
        on_failure: Callable[[BaseException], None],
        children: int,
        max_bytes: int = MAX_BYTES,
        max_count: int = MAX_COUNT,
    ) -> None:
        """`children`: how many results are made at once.

        `on_failure` gets an error at once; nothing behind the failed job is delivered.
        """
        self._on_failure = on_failure
        self._budget = LookAheadBudget(children=children, max_bytes=max_bytes, max_count=max_count)
        self._order = DeliveryOrder()
        self._undelivered: dict[_Task, Job] = {}
        """Jobs whose delivery has not begun."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the uploads and results that are held now."""
        return self._budget.held_bytes

    async def add(self, job: Job) -> None:
        """Begin a job as soon as there is room; returns when it has begun.  One caller."""
        await self._budget.wait_for_room(job.held_bytes)
        if not job.is_wanted():
            return
        task = asyncio.create_task(self._run(job, self._order.last(job.order)))
        self._budget.hold(task, job.held_bytes)
        self._undelivered[task] = job
        self._order.append(job.order, task)
        task.add_done_callback(partial(self._done, job.order))

    def cancel_unwanted(self) -> None:
        """Cancel unwanted jobs.  A delivery that has begun goes on, and the next job follows it."""
        for task, job in self._undelivered.items():
            if not job.is_wanted():
                task.cancel()
                self._order.rewind(job.order)

    async def _run(self, job: Job, before: _Task | None) -> None:
        task = cast("_Task", asyncio.current_task())
        async with self._budget.child(is_first=lambda: before is None or before.done()):
            wire = await job.make()
            self._budget.hold(task, len(wire.value))
        if before:
            await asyncio.wait([before])  # not `before` itself, which outlives a cancellation
            before.result()
        del self._undelivered[task]
        self._order.begin_delivery(job.order, task)
        await job.deliver(wire)

    def _done(self, order: Hashable, task: _Task) -> None:
        self._undelivered.pop(task, None)
        self._order.remove(order, task)
        self._budget.release(task)
        # Asking for the result also makes a cancelled task drop what it held.
        try:
            task.result()
        except asyncio.CancelledError:
            return
        except BaseException as error:  # noqa: BLE001 - reported, and not raised into the loop
            self._on_failure(error)
