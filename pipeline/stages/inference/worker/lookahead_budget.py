"""A budget of records and bytes for the uploads that are worked on ahead, divided among partitions.

* The first record of each partition always fits, since everything that is held may wait for it.
* Half of the budget is divided among the lanes that have uploads, and each lane's share among its
  partitions that have some.  The other half is for those that come later: what one lane or one
  slow image holds never leaves another partition without room.
* A result counts once it exists, so each child can exceed the budget by one result, and so can
  the first record of each partition (64 MB at most).

Pure.
"""

from collections import Counter
from collections.abc import Hashable

from erasestream.pipeline.stages.inference.worker.job_queue import Job

MAX_BYTES = 128_000_000
"""Uploads and their results."""
MAX_COUNT = 512
"""Records: a worker that loses its partitions has worked on as many in vain."""


class LookAheadBudget:
    """Uploads that wait, and the bytes of those that have begun."""

    def __init__(self, *, max_bytes: int, max_count: int) -> None:
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._unfinished: dict[Hashable, Counter[Hashable]] = {}
        """How many uploads of each lane and partition wait or have begun."""
        self._bytes: Counter[Hashable] = Counter()
        self._begun: Counter[Hashable] = Counter()
        self._all_begun = 0
        self.held_bytes: int = 0
        """Bytes of the uploads that have begun, and of their results."""

    def add(self, job: Job) -> None:
        """Count an upload that waits."""
        self._unfinished.setdefault(job.lane, Counter())[job.partition] += 1

    def allows(self, job: Job) -> bool:
        """Return whether an upload that waits may begin."""
        at, more = job.partition, job.held_bytes
        if not self._begun[at]:
            return True
        sharing = len(self._unfinished) * len(self._unfinished[job.lane])
        return (
            self._begun[at] < self._max_count // 2 // sharing
            and self._bytes[at] + more <= self._max_bytes // 2 // sharing
            and self._all_begun < self._max_count
            and self.held_bytes + more <= self._max_bytes
        )

    def begin(self, job: Job) -> None:
        """Count an upload that begins."""
        self._begun[job.partition] += 1
        self._all_begun += 1
        self.hold(job, job.held_bytes)

    def hold(self, job: Job, more_bytes: int) -> None:
        """Count more bytes that are held for an upload; negative ones for less."""
        self._bytes[job.partition] += more_bytes
        self.held_bytes += more_bytes

    def release(self, job: Job, result_bytes: int) -> None:
        """Count an upload that has begun, and its result, no more."""
        self.hold(job, -job.held_bytes - result_bytes)
        self._begun[job.partition] -= 1
        self._all_begun -= 1
        self.remove(job)

    def remove(self, job: Job) -> None:
        """Count an upload no more that has not begun."""
        partitions = self._unfinished[job.lane]
        partitions[job.partition] -= 1
        if partitions[job.partition]:
            return
        for counts in (partitions, self._bytes, self._begun):
            del counts[job.partition]
        if not partitions:
            del self._unfinished[job.lane]
