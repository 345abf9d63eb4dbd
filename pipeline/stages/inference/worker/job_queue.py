"""Uploads that wait for their turn, in a queue for each partition.

Lanes take turns, and so do the partitions of a lane: the uploads of one lane, however many they
are and in however many partitions, delay another lane's by the one that is being begun.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import Wire

MAX_COUNT = 16
MAX_BYTES = 4_000_000
"""Uploads of one partition that wait; it is full from there on, until half of them have begun."""


class Job(NamedTuple):
    """The work for one upload."""

    lane: Hashable
    partition: Hashable
    """Results of a partition are delivered one after another, in the order of their uploads."""
    held_bytes: int
    make: Callable[[], Awaitable[Wire]]
    deliver: Callable[[Wire], Awaitable[None]]
    is_wanted: Callable[[], bool]
    """Whether the job is still to be done.  If not, neither are those behind it."""
    is_ready: Callable[[], bool] = lambda: True
    """Whether all that the job needs is there.  Until then those behind it wait, too."""


class JobQueue:
    """Jobs that have not begun."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, OrderedDict[Hashable, deque[Job]]] = OrderedDict()
        self._full: set[Hashable] = set()
        self._has_room_again: list[Hashable] = []

    def add(self, job: Job) -> bool:
        """Add a job behind those of its partition; return whether the partition is full."""
        jobs = self._lanes.setdefault(job.lane, OrderedDict()).setdefault(job.partition, deque())
        jobs.append(job)
        if _fills(jobs, divisor=1):
            self._full.add(job.partition)
        return job.partition in self._full

    def take(self, may_begin: Callable[[Job], bool]) -> Job | None:
        """Remove the next job that may begin; then it is the other lanes' turn."""
        for lane, partitions in self._lanes.items():
            for at, jobs in partitions.items():
                if may_begin(jobs[0]):
                    job = jobs.popleft()
                    self._note_room(at, jobs)
                    partitions.move_to_end(at)
                    self._lanes.move_to_end(lane)
                    self._forget_empty(job)
                    return job
        return None

    def remove_unwanted(self) -> list[Job]:
        """Remove and return the jobs that are no longer to be done."""
        waiting = [
            job
            for partitions in self._lanes.values()
            for jobs in partitions.values()
            for job in jobs
        ]
        self._lanes.clear()
        for at in list(self._full):
            self._note_room(at, ())
        unwanted = []
        for job in waiting:
            if job.is_wanted():
                self.add(job)
            else:
                unwanted.append(job)
        return unwanted

    def no_longer_full(self) -> list[Hashable]:
        """Return the partitions that were full and have room again, each once."""
        found, self._has_room_again = self._has_room_again, []
        return found

    def _note_room(self, at: Hashable, jobs: Collection[Job]) -> None:
        if at in self._full and not _fills(jobs, divisor=2):
            self._full.remove(at)
            self._has_room_again.append(at)

    def _forget_empty(self, job: Job) -> None:
        partitions = self._lanes[job.lane]
        if not partitions[job.partition]:
            del partitions[job.partition]
        if not partitions:
            del self._lanes[job.lane]


def _fills(jobs: Collection[Job], *, divisor: int) -> bool:
    size = sum(job.held_bytes for job in jobs)
    return len(jobs) >= MAX_COUNT // divisor or size >= MAX_BYTES // divisor
