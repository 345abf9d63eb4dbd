"""Deliveries and acknowledgements of results, and the offsets to commit.  Pure.

Rules:

* The committable offset of a partition is that of its first delivered record that is not
  acknowledged; if there is none, the offset after the last record that was read.
* Acknowledging twice, or after the partition was revoked, does nothing.
* A record that comes again in the same session (redelivered after a rebalance, or another record
  of the same upload) is not delivered again while it is remembered.
* The first result of an id is its result, even if it is a failure: a later cut-out with the same
  id is a duplicate.  To try again, upload under another id.

Thread-safe: records are read in one thread and may be acknowledged in others.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum, auto
from typing import Self

from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.kafka.records import Partition


class PartitionProgress:
    """Delivered and acknowledged offsets of one partition."""

    def __init__(self) -> None:
        self._unacknowledged: OrderedDict[int, None] = OrderedDict()
        self._next: int | None = None

    def skip(self, offset: int) -> None:
        """Pass a record that is not delivered.  Offsets of one partition come in order."""
        self._next = offset + 1

    def deliver(self, offset: int) -> None:
        """Pass a record that is delivered and has to be acknowledged."""
        self.skip(offset)
        self._unacknowledged[offset] = None

    def acknowledge(self, offset: int) -> None:
        """Acknowledge a delivered record."""
        self._unacknowledged.pop(offset, None)

    @property
    def committable(self) -> int | None:
        """Offset to commit; None before the first record."""
        return next(iter(self._unacknowledged), self._next)


class ResultKey(bytes):
    """Key of a result: sixteen bytes instead of two strings, and no account id in memory."""

    __slots__ = ()

    @classmethod
    def of(cls, account: AccountId, upload_id: UploadId) -> Self:
        """Return the key of the results of this upload of this account."""
        text = f"{account}\0{upload_id}".encode()
        return cls(hashlib.blake2b(text, digest_size=16).digest())


class ResultState(Enum):
    """State of a result within the session."""

    NEW = auto()
    DELIVERED = auto()
    ACKNOWLEDGED = auto()


class DeliveryTracker:
    """Progress of the assigned partitions, and the results of this session.

    `remember` bounds the number of remembered results, about 300 bytes each; the oldest are
    dropped first.
    """

    def __init__(self, *, remember: int) -> None:
        self._remember = remember
        self._holders: OrderedDict[ResultKey, tuple[Partition, int] | None] = OrderedDict()
        """Position of the record that was delivered; None once it is acknowledged."""
        self._progress: dict[Partition, PartitionProgress] = {}
        self._committed: dict[Partition, int] = {}
        self._lock = threading.Lock()

    def track(self, at: Partition, offset: int, key: ResultKey) -> ResultState:
        """Take a result that was read, and return its state until now: deliver it if it is new."""
        with self._lock:
            progress = self._progress_of(at)
            if key not in self._holders:
                self._holders[key] = (at, offset)
                if len(self._holders) > self._remember:
                    self._holders.popitem(last=False)
                progress.deliver(offset)
                return ResultState.NEW
            holder = self._holders[key]
            if holder == (at, offset):
                # The same record after a rebalance, while its acknowledgement is pending.
                progress.deliver(offset)
            else:
                progress.skip(offset)
            return ResultState.ACKNOWLEDGED if holder is None else ResultState.DELIVERED

    def _progress_of(self, at: Partition) -> PartitionProgress:
        progress = self._progress.get(at)
        if progress is None:
            progress = self._progress[at] = PartitionProgress()
        return progress

    def skip(self, at: Partition, offset: int) -> None:
        """Take a record that was read and is not delivered."""
        with self._lock:
            self._progress_of(at).skip(offset)

    def acknowledge(self, at: Partition, offset: int, key: ResultKey) -> None:
        """Acknowledge a delivered result."""
        with self._lock:
            if key in self._holders:
                self._holders[key] = None
            if at in self._progress:
                self._progress[at].acknowledge(offset)

    def to_commit(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """Return the committable offsets that are not committed, of these partitions or of all."""
        with self._lock:
            due = {}
            for at in self._progress if partitions is None else partitions:
                offset = self._progress[at].committable if at in self._progress else None
                if offset is not None and offset != self._committed.get(at):
                    due[at] = offset
            return due

    def mark_committed(self, offsets: dict[Partition, int]) -> None:
        """Record that these offsets are committed."""
        with self._lock:
            ours = {at: offset for at, offset in offsets.items() if at in self._progress}
            self._committed.update(ours)

    def revoke(self, partitions: Iterable[Partition] | None = None) -> None:
        """Drop the progress of these partitions, or of all: they belong to another member."""
        with self._lock:
            for at in list(self._progress) if partitions is None else partitions:
                self._progress.pop(at, None)
                self._committed.pop(at, None)
