"""Records that were fetched and are not taken yet, in the order of each partition.

Each is decoded before it is queued.  Sealed ones whose key is not known are opened by another
thread, in the order in which they were fetched, and taken once they are.  Not thread-safe: the
owner holds its lock.
"""

from collections import deque
from collections.abc import Iterable

from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.topics.client.expired import Expired
from erasestream.topics.kafka.consumer.reported_end import ReadToEnd
from erasestream.topics.kafka.records import Partition, Record

MAX_RECORDS = 256
"""Most records that wait to be taken; small ones are bounded by this, large ones by their bytes."""

Outcome = Cutout | Failure | Expired | InvalidEvent
"""The result in a record, or what is wrong with the record."""


class FetchedRecord:
    """A record with a result; `outcome` is set once it is decoded and, if it is sealed, opened."""

    __slots__ = ("at", "is_dropped", "outcome", "record", "size")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.at = record.at
        self.size = len(record.value)
        self.outcome: Outcome | None = None
        self.is_dropped = False

    def complete(self, outcome: Outcome) -> None:
        """Set the outcome, in place of the record's value."""
        self.record = self.record._replace(value=b"")
        self.outcome = outcome


Fetched = FetchedRecord | ReadToEnd


class FetchedResults:
    """A queue of a few records and at least one of any size."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[Fetched] = deque()
        self._sealed: deque[FetchedRecord] = deque()
        self._bytes = 0

    def put(self, item: Fetched) -> None:
        """Add what was fetched."""
        if isinstance(item, FetchedRecord) and item.outcome is None:
            self._sealed.append(item)
        self._items.append(item)
        self._bytes += _size(item)

    def has_room(self, share: float = 1.0) -> bool:
        """Return whether less than this share of the queue is used."""
        is_small = self._bytes < share * self._max_bytes
        return is_small and len(self._items) < share * MAX_RECORDS

    @property
    def is_opening(self) -> bool:
        """Whether the next record is still to be opened."""
        return bool(self._items) and _is_unopened(self._items[0])

    def next_sealed(self) -> FetchedRecord | None:
        """Return the next record to open, once."""
        return self._sealed.popleft() if self._sealed else None

    def take(self) -> Fetched | None:
        """Return the next record, unless it is still to be opened."""
        if not self._items or self.is_opening:
            return None
        item = self._items.popleft()
        self._bytes -= _size(item)
        return item

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Drop all of these partitions."""
        dropped = set(partitions)
        if not dropped:
            return
        for each in self._items:
            if isinstance(each, FetchedRecord) and each.at in dropped:
                each.is_dropped = True
        self._items = deque(each for each in self._items if each.at not in dropped)
        self._sealed = deque(each for each in self._sealed if not each.is_dropped)
        self._bytes = sum(map(_size, self._items))


def _is_unopened(item: Fetched) -> bool:
    return isinstance(item, FetchedRecord) and item.outcome is None


def _size(item: Fetched) -> int:
    return item.size if isinstance(item, FetchedRecord) else 0
