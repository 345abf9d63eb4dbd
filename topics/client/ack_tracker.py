"""What was handed out, what was acknowledged, and so what may be committed.  Pure.

Rules, all of them:

* The committed offset of a partition is that of its first record that is handed out and
  not acknowledged; if there is none, the one behind the last record that was read.
* Acknowledging twice, or after the partition went elsewhere, does nothing.
* A record that comes again in the same session (a redelivery after a rebalance, or another
  record of the same upload) is not handed out again while it is remembered.
* The first result of an id is its result, also if it is a failure: a cut-out that comes
  later under the same id is a duplicate.  Who wants another try uploads under another id.

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


class Progress:
    """How far one partition is done."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, None] = OrderedDict()
        self._next: int | None = None

    def read(self, offset: int) -> None:
        """A record was read.  Offsets of one partition come in order."""
        self._next = offset + 1

    def hand_out(self, offset: int) -> None:
        """A record was read and is the user's now."""
        self.read(offset)
        self._open[offset] = None

    def acknowledge(self, offset: int) -> None:
        """The user is done with it."""
        self._open.pop(offset, None)

    @property
    def open(self) -> int:
        """How many records are handed out and not acknowledged."""
        return len(self._open)

    @property
    def committable(self) -> int | None:
        """The offset to commit; None before the first record."""
        return next(iter(self._open), self._next)


class ResultKey(bytes):
    """Names a result: sixteen bytes instead of two strings, and no account id in memory."""

    __slots__ = ()

    @classmethod
    def of(cls, account: AccountId, upload_id: UploadId) -> Self:
        """The key of the results of this upload of this account."""
        text = f"{account}\0{upload_id}".encode()
        return cls(hashlib.blake2b(text, digest_size=16).digest())


class Seen(Enum):
    """What is known of a result."""

    NEW = auto()
    HANDED_OUT = auto()
    DONE = auto()


class DeliveryTracker:
    """The partitions that are ours now, and the results that were seen since the start.

    `remember` bounds the number of results that are remembered; the oldest are forgotten
    first.  One costs about 300 bytes.
    """

    def __init__(self, *, remember: int) -> None:
        self._remember = remember
        self._seen: OrderedDict[ResultKey, tuple[Partition, int] | None] = OrderedDict()
        self._progress: dict[Partition, Progress] = {}
        self._committed: dict[Partition, int] = {}
        self._lock = threading.Lock()

    def see(self, at: Partition, offset: int, key: ResultKey) -> Seen:
        """A result was read: whether it is new, and so is the user's now."""
        with self._lock:
            progress = self._of(at)
            if key not in self._seen:
                self._seen[key] = (at, offset)
                if len(self._seen) > self._remember:
                    self._seen.popitem(last=False)
                progress.hand_out(offset)
                return Seen.NEW
            holder = self._seen[key]
            if holder == (at, offset):
                # The same record again after a rebalance, while the user still has it.
                progress.hand_out(offset)
            else:
                progress.read(offset)
            return Seen.DONE if holder is None else Seen.HANDED_OUT

    def _of(self, at: Partition) -> Progress:
        progress = self._progress.get(at)
        if progress is None:
            progress = self._progress[at] = Progress()
        return progress

    def skip(self, at: Partition, offset: int) -> None:
        """A record was read that nobody is handed."""
        with self._lock:
            self._of(at).read(offset)

    def acknowledge(self, at: Partition, offset: int, key: ResultKey) -> None:
        """The user is done with this result."""
        with self._lock:
            if key in self._seen:
                self._seen[key] = None
            if at in self._progress:
                self._progress[at].acknowledge(offset)

    def to_commit(self, among: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """The offsets that were not committed yet, of these partitions or of all."""
        with self._lock:
            due = {}
            for at in self._progress if among is None else among:
                offset = self._progress[at].committable if at in self._progress else None
                if offset is not None and offset != self._committed.get(at):
                    due[at] = offset
            return due

    def committed(self, offsets: dict[Partition, int]) -> None:
        """These offsets were committed."""
        with self._lock:
            ours = {at: offset for at, offset in offsets.items() if at in self._progress}
            self._committed.update(ours)

    def lose(self, partitions: Iterable[Partition]) -> None:
        """These partitions are another's now."""
        with self._lock:
            for at in partitions:
                self._progress.pop(at, None)
                self._committed.pop(at, None)

    def lose_all(self) -> None:
        """All partitions are another's now."""
        with self._lock:
            self._progress.clear()
            self._committed.clear()

    @property
    def open(self) -> int:
        """How many results are handed out and not acknowledged, in partitions that are ours."""
        with self._lock:
            return sum(progress.open for progress in self._progress.values())
