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
from typing import Protocol

MAX_BYTES = 128_000_000
"""Uploads and their results."""
MAX_COUNT = 512
"""Records: a worker that loses its partitions has worked on as many in vain."""


class Upload(Protocol):
    """The facts about an upload that the budget counts."""

    @property
    def lane(self) -> Hashable:
        """The lane."""

    @property
    def partition(self) -> Hashable:
        """The partition, of this lane alone."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the upload."""


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
        self.held_bytes = 0
        """Bytes of the uploads that have begun, and of their results."""

    def add(self, upload: Upload) -> None:
        """Count an upload that waits."""
        self._unfinished.setdefault(upload.lane, Counter())[upload.partition] += 1

    def allows(self, upload: Upload) -> bool:
        """Return whether an upload that waits may begin."""
        at, more = upload.partition, upload.held_bytes
        if not self._begun[at]:
            return True
        sharing = len(self._unfinished) * len(self._unfinished[upload.lane])
        return (
            self._begun[at] < self._max_count // 2 // sharing
            and self._bytes[at] + more <= self._max_bytes // 2 // sharing
            and self._all_begun < self._max_count
            and self.held_bytes + more <= self._max_bytes
        )

    def begin(self, upload: Upload) -> None:
        """Count an upload that begins."""
        self._begun[upload.partition] += 1
        self._all_begun += 1
        self.hold(upload, upload.held_bytes)

    def hold(self, upload: Upload, more_bytes: int) -> None:
        """Count more bytes that are held for an upload; negative ones for less."""
        self._bytes[upload.partition] += more_bytes
        self.held_bytes += more_bytes

    def release(self, upload: Upload, result_bytes: int) -> None:
        """Count an upload that has begun, and its result, no more."""
        self.hold(upload, -upload.held_bytes - result_bytes)
        self._begun[upload.partition] -= 1
        self._all_begun -= 1
        self.remove(upload)

    def remove(self, upload: Upload) -> None:
        """Count an upload no more that has not begun."""
        partitions = self._unfinished[upload.lane]
        partitions[upload.partition] -= 1
        if partitions[upload.partition]:
            return
        for counts in (partitions, self._bytes, self._begun):
            del counts[upload.partition]
        if not partitions:
            del self._unfinished[upload.lane]
