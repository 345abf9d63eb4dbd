"""Deliveries and acknowledgements of results, and the offsets to commit.  Pure.

Rules:

* Acknowledging twice, or after the partition was revoked, does nothing.
* A record that comes again in the same session (redelivered after a rebalance, or another record
  of the same upload) is not delivered again while it is remembered, unless it was returned.
* The first result of an id is its result, even if it is a failure: a later cut-out with the same
  id is a duplicate.  To try again, upload under another id.
* Acknowledgements are counted until their commit succeeds, so that lost ones are reported.

The offsets of a partition: `partition_progress.py`.

Thread-safe: records are read in one thread and may be acknowledged in others.
"""

import threading
from collections.abc import Iterable, Mapping
from enum import Enum, auto

from erasestream.topics.client.acknowledged_offsets import MAX_BYTES
from erasestream.topics.client.assigned_partition import AssignedPartition
from erasestream.topics.client.delivered_results import (
    DeliveredRecord,
    DeliveredResults,
    ResultKey,
)
from erasestream.topics.client.partition_progress import PartitionProgress, Reading
from erasestream.topics.kafka.consumer.offset_committer import Commits, DueCommit
from erasestream.topics.kafka.records import Partition


class ResultState(Enum):
    """State of a result within the session."""

    NEW = auto()
    """To be delivered."""
    KNOWN = auto()
    """This record was read before, or acknowledged before a restart."""
    DUPLICATE = auto()
    """Another record of the upload was delivered."""


class DeliveryTracker:
    """Progress of the assigned partitions, and the results of this session.

    `remember` bounds the number of remembered results.
    """

    def __init__(self, *, remember: int) -> None:
        self._max_metadata_bytes = MAX_BYTES
        self._delivered = DeliveredResults(remember)
        self._assigned: dict[Partition, AssignedPartition] = {}
        self._lock = threading.RLock()

    def resume(self, at: Partition, committed: int | None, metadata: str) -> None:
        """Take an assigned partition, and what its group has committed for it, if anything."""
        with self._lock:
            self._assigned[at] = AssignedPartition(committed, metadata)

    def track(self, at: Partition, offset: int, key: ResultKey) -> ResultState:
        """Take a result that was read, and return its state until now: deliver it if it is new."""
        with self._lock:
            progress = self._progress_of(at)
            reading = progress.read(offset)
            if reading is Reading.KNOWN:
                return ResultState.KNOWN
            delivered = self._delivered.get(key)
            if delivered == DeliveredRecord(at, offset):
                # The same record after a rebalance, while its acknowledgement is pending.
                progress.deliver(offset)
            if reading is Reading.RETURNED or delivered is None:
                progress.deliver(offset)
                self._delivered.add(key, DeliveredRecord(at, offset))
                return ResultState.NEW
            return ResultState.DUPLICATE

    def _progress_of(self, at: Partition) -> PartitionProgress:
        if at not in self._assigned:
            self._assigned[at] = AssignedPartition()
        return self._assigned[at].progress

    def skip(self, at: Partition, offset: int) -> bool:
        """Take a record that is not delivered; return whether it is read for the first time."""
        with self._lock:
            return self._progress_of(at).read(offset) is Reading.NEW

    def pass_to(self, at: Partition, offset: int) -> None:
        """Take the end of a partition that was read to it: nothing is left before this offset."""
        with self._lock:
            self._progress_of(at).pass_to(offset)

    def acknowledge(self, at: Partition, offset: int, key: ResultKey) -> bool:
        """Acknowledge a delivered result; return whether it was waiting for that here."""
        with self._lock:
            self._delivered.acknowledge(key)
            return at in self._assigned and self._assigned[at].progress.acknowledge(offset)

    def return_at(self, at: Partition, offset: int, due_s: float) -> None:
        """Deliver a result again at this time, unless it is acknowledged."""
        with self._lock:
            if at in self._assigned:
                self._assigned[at].progress.return_at(offset, due_s)

    def begin_passes(self, now_s: float) -> dict[Partition, int]:
        """Return the offsets to seek to, so that returned results that are due are read again."""
        with self._lock:
            begun = {at: each.progress.begin_pass(now_s) for at, each in self._assigned.items()}
        return {at: offset for at, offset in begun.items() if offset is not None}

    def nothing_left(self) -> None:
        """Note that nothing was left to read."""
        with self._lock:
            for each in self._assigned.values():
                each.progress.nothing_left()

    def seek(self, at: Partition, offset: int) -> None:
        """Forget what was delivered from this offset on; all before it needs no acknowledgement.

        The offset is committed only once it was read from: it may be no offset of the log.
        """
        with self._lock:
            self._assigned[at] = AssignedPartition()
            self._delivered.forget_from(at, offset)

    @property
    def assigned(self) -> frozenset[Partition]:
        """Partitions whose results this session delivers."""
        with self._lock:
            return frozenset(self._assigned)

    @property
    def uncommitted(self) -> int:
        """Number of acknowledgements that no commit has covered."""
        with self._lock:
            return sum(each.unsaved for each in self._assigned.values())

    def to_commit(self, partitions: Iterable[Partition] | None = None) -> Commits:
        """Return what is to be committed and is not, of these partitions or of all."""
        with self._lock:
            due = {
                at: self._assigned[at].due(self._max_metadata_bytes)
                for at in (self._assigned if partitions is None else partitions)
                if at in self._assigned
            }
        return {at: each for at, each in due.items() if each is not None}

    def mark_committed(self, commits: Mapping[Partition, DueCommit]) -> None:
        """Record that these are committed."""
        with self._lock:
            for at, each in commits.items():
                if at in self._assigned:
                    self._assigned[at].mark_committed(each)

    def omit_metadata(self) -> None:
        """Commit offsets alone from now on: the brokers accept no metadata of this length."""
        self._max_metadata_bytes = 0

    def revoke(self, partitions: Iterable[Partition] | None = None) -> Commits:
        """Drop the progress of these partitions, or of all, and return what is to be committed."""
        with self._lock:
            revoked = list(self._assigned) if partitions is None else list(partitions)
            due = self.to_commit(revoked)
            for at in revoked:
                self._assigned.pop(at, None)
            return due
