"""Work ahead on many records, and deliver their results in order.

Within a partition, results are delivered in the order of their uploads, so a slow image holds
back the results behind it, even finished ones, but those of no other partition: the children of
the pool go on with the next records of the others, by turns (`job_queue.py`, `child_slots.py`),
each within its share of a budget (`lookahead_budget.py`, `delivery_order.py`).

* Adding a job never waits.  A partition with many waiting jobs is reported as full; the caller
  reads no more of it, and goes on with the others, until it has room.
* The first record of each partition needs a free child and nothing else, since everything that is
  held may wait for it: nothing waits forever.
* Nothing is delivered behind a record that failed.
* A record that is not ready (its keys are not there) occupies no child, and holds back its own
  partition only.
* A record that is no longer wanted is cancelled, unless its delivery has begun.

Pure but for asyncio.
"""

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import cast

from erasestream.pipeline.stages.inference.worker.child_slots import ChildSlots
from erasestream.pipeline.stages.inference.worker.delivery_order import DeliveryOrder
from erasestream.pipeline.stages.inference.worker.job_queue import Job, JobQueue
from erasestream.pipeline.stages.inference.worker.lookahead_budget import (
    MAX_BYTES,
    MAX_COUNT,
    LookAheadBudget,
)

_Task = asyncio.Task[None]


class LookAhead:
    """The records that are worked on, or wait to be worked on or delivered."""

    def __init__(
        self,
        *,
        on_failure: Callable[[BaseException], None],
        on_full: Callable[[Hashable], None],
        on_room: Callable[[Hashable], None],
        children: int,
        max_bytes: int = MAX_BYTES,
        max_count: int = MAX_COUNT,
    ) -> None:
        """`children`: how many results are made at once.

        `on_failure` gets an error at once; nothing behind the failed job is delivered.  `on_full`
        and `on_room` get a partition.
        """
        self._on_failure = on_failure
        self._on_full = on_full
        self._on_room = on_room
        self._children = ChildSlots(children)
        self._queue = JobQueue()
        self._budget = LookAheadBudget(max_bytes=max_bytes, max_count=max_count)
        self._order = DeliveryOrder()
        self._undelivered: dict[_Task, Job] = {}
        """Jobs whose delivery has not begun."""
        self._result_bytes: dict[_Task, int] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of the uploads that have begun, and of their results."""
        return self._budget.held_bytes

    def add(self, job: Job) -> None:
        """Begin a job once it is its turn."""
        if not job.is_wanted():
            return
        self._budget.add(job)
        self._children.add_upload(job.lane)
        if self._queue.add(job):
            self._on_full(job.partition)
        self._begin_jobs()

    def cancel_unwanted(self) -> None:
        """Cancel unwanted jobs.  A delivery that has begun goes on, and the next job follows it."""
        for job in self._queue.remove_unwanted():
            self._budget.remove(job)
        for task, job in self._undelivered.items():
            if not job.is_wanted():
                task.cancel()
                self._order.rewind(job.partition)
        self._begin_jobs()

    def look_again(self) -> None:
        """Begin jobs that have become ready."""
        self._begin_jobs()

    def _begin_jobs(self) -> None:
        while job := self._queue.take(self._may_begin):
            self._children.occupy(job.lane)
            self._budget.begin(job)
            task = asyncio.create_task(self._run(job, self._order.last(job.partition)))
            self._undelivered[task] = job
            self._order.append(job.partition, task)
            task.add_done_callback(partial(self._done, job))
        for at in self._queue.no_longer_full():
            self._on_room(at)

    def _may_begin(self, job: Job) -> bool:
        return job.is_ready() and self._children.is_free_for(job.lane) and self._budget.allows(job)

    async def _run(self, job: Job, before: _Task | None) -> None:
        task = cast("_Task", asyncio.current_task())
        wire = await job.make()
        self._result_bytes[task] = len(wire.value)
        self._budget.hold(job, len(wire.value))
        self._free_child(job)
        if before:
            await asyncio.wait([before])  # not `before` itself, which outlives a cancellation
            before.result()
        del self._undelivered[task]
        self._order.begin_delivery(job.partition, task)
        await job.deliver(wire)

    def _free_child(self, job: Job) -> None:
        self._children.free(job.lane)
        self._begin_jobs()

    def _done(self, job: Job, task: _Task) -> None:
        self._undelivered.pop(task, None)
        self._order.remove(job.partition, task)
        is_made = task in self._result_bytes
        self._budget.release(job, self._result_bytes.pop(task, 0))
        if is_made:
            self._begin_jobs()
        else:
            self._free_child(job)
        # Asking for the result also makes a cancelled task drop what it held.
        try:
            task.result()
        except asyncio.CancelledError:
            return
        except BaseException as error:  # noqa: BLE001 - reported, and not raised into the loop
            self._on_failure(error)
