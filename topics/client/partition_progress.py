"""Records of one partition: read, acknowledged, and to be read again.  Pure.

Rules:

* The offset to commit is that of the first delivered record that is not acknowledged; if there is
  none, the offset after the last record that was read.
* After a seek back to a returned record (`nack`), the records that were read before are passed.
* Returned records are read again in passes (`returned_records.py`).
* A returned record that does not come again was deleted, and counts as acknowledged.
* What a commit remembers counts only if the reading begins where that commit was: a record below
  it means that the log was cut, and that the offsets may name other records.
"""

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import chain, pairwise

from erasestream.topics.client.acknowledged_offsets import to_metadata
from erasestream.topics.client.returned_records import ReturnedRecords


class Reading(Enum):
    """Kind of a record that was read."""

    NEW = auto()
    RETURNED = auto()
    """Delivered before, and returned by its reader."""
    KNOWN = auto()
    """Read before, or acknowledged before a restart."""


class PartitionProgress:
    """Delivered, acknowledged and returned offsets of one partition."""

    def __init__(self, start: int = 0, acknowledged: Iterable[range] = ()) -> None:
        """`acknowledged`: ascending offsets beyond `start`, the committed offset."""
        self._start = start
        self._remembered = list(acknowledged)
        self._unacknowledged: dict[int, None] = {}
        """Ascending."""
        self._next: int | None = None
        self._returned = ReturnedRecords()
        self.acknowledgements = 0

    def read(self, offset: int) -> Reading:
        """Take a record that was read."""
        self._expire_below(offset)
        if self._next is not None and offset < self._next:
            if offset not in self._returned.awaited:
                return Reading.KNOWN
            self._returned.awaited.discard(offset)
            return Reading.RETURNED
        if self._next is None and offset < self._start:
            self._remembered = []
        self.pass_to(offset + 1)
        return Reading.KNOWN if self._is_remembered(offset) else Reading.NEW

    def _expire_below(self, offset: int) -> None:
        if awaited := self._returned.awaited:
            for gone in [each for each in awaited if each < offset]:
                self.acknowledge(gone)

    def _is_remembered(self, offset: int) -> bool:
        while self._remembered and self._remembered[0].stop <= offset:
            self._remembered.pop(0)
        return bool(self._remembered) and offset in self._remembered[0]

    def pass_to(self, offset: int) -> None:
        """Take the end of what was read: nothing is left before this offset, markers included."""
        self._expire_below(offset)
        self._next = max(offset, self._next or 0)
        self._returned.end_pass()

    def deliver(self, offset: int) -> None:
        """Expect an acknowledgement of a record that was read."""
        self._unacknowledged[offset] = None

    def acknowledge(self, offset: int) -> bool:
        """Acknowledge a delivered record; return whether it was not acknowledged before."""
        if offset not in self._unacknowledged:
            return False
        del self._unacknowledged[offset]
        self._returned.forget(offset)
        self.acknowledgements += 1
        return True

    def return_at(self, offset: int, due_s: float) -> None:
        """Read a delivered record again at this time, unless it is acknowledged."""
        if offset in self._unacknowledged:
            self._returned.return_at(offset, due_s)

    def nothing_left(self) -> None:
        """Let the next pass begin: there was nothing new to read."""
        self._returned.end_pass()

    def begin_pass(self, now_s: float) -> int | None:
        """Return the offset to seek to if returned records are due, and begin to read them."""
        return self._returned.begin_pass(now_s)

    @property
    def committable(self) -> int | None:
        """Offset to commit; None before the first record."""
        return next(iter(self._unacknowledged), self._next)

    def metadata(self, max_bytes: int) -> str:
        """Return what is acknowledged beyond `committable`, as the metadata of its commit."""
        committed = self.committable
        if committed is None:
            return ""
        return to_metadata(committed, self._acknowledged_ranges(), max_bytes)

    def _acknowledged_ranges(self) -> Iterator[range]:
        end = self._next or 0
        for before, after in pairwise(chain(self._unacknowledged, [end])):
            if before + 1 < after:
                yield range(before + 1, after)
        for each in self._remembered:
            if each.stop > end:
                yield range(max(each.start, end), each.stop)
