"""Records that the sink has read and not done, by their positions.

Rules, all of them:

1. A record is *held* while it is worked on, while its lane's decisions are behind, and while it
   cannot be read, until its life ends.  Its bytes are not kept: a waiting record is read again.
2. A partition can be committed up to its first held record, however many behind it are done; and
   up to its end, which is behind markers of transactions, if none is held.
3. A new assignment begins without any: what is not committed is delivered again.
"""

from collections.abc import Iterator
from typing import NamedTuple

from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition


class WaitingRecord(NamedTuple):
    """A record whose lane's decisions are behind, and the offset that they have to reach."""

    at: Partition
    offset: int
    lane: Lane
    id: UploadId
    routed: Mark


class HeldRecords:
    """The records of one assignment that are not done.  One thread."""

    def __init__(self) -> None:
        self._read_to: dict[Partition, int] = {}
        self._held: dict[Partition, dict[int, int]] = {}
        """When each was appended, by its offset."""
        self._committed: dict[Partition, int] = {}
        self._waiting: dict[tuple[Partition, int], WaitingRecord] = {}
        self._left: set[tuple[Partition, int]] = set()

    def __len__(self) -> int:
        """Return how many records wait for their lanes."""
        return len(self._waiting)

    def hold(self, at: Partition, offset: int, appended_ms: int) -> None:
        """Hold a record that was read."""
        self.read_to(at, offset + 1)
        self._held.setdefault(at, {})[offset] = appended_ms

    def expected(self, at: Partition) -> int | None:
        """Return the offset behind the last one that was read; None before the first."""
        return self._read_to.get(at)

    def oldest_ms(self) -> int | None:
        """Return when the oldest held record was appended."""
        return min((held[min(held)] for held in self._held.values() if held), default=None)

    def read_to(self, at: Partition, end: int) -> None:
        """Note that there is no record of a partition before its end that was not read."""
        if end > self._read_to.get(at, 0):
            self._read_to[at] = end

    def wait(self, record: WaitingRecord) -> None:
        """Let a held record wait for its lane."""
        self._waiting[record.at, record.offset] = record

    def waiting(self) -> Iterator[WaitingRecord]:
        """Yield the records that wait, those that were read first at the beginning."""
        yield from list(self._waiting.values())

    def begin(self, at: Partition, offset: int) -> None:
        """Let a held record wait no longer, since work on it begins."""
        self._waiting.pop((at, offset), None)

    def holds(self, at: Partition, offset: int) -> bool:
        """Return whether a record is held."""
        return offset in self._held.get(at, ())

    def leave(self, at: Partition, offset: int) -> None:
        """Hold a record that this process tries no more."""
        self._waiting.pop((at, offset), None)
        self._left.add((at, offset))

    def left_until(self, appended_ms: int) -> list[tuple[Partition, int]]:
        """Return the records that are tried no more, of those that were appended until then."""
        return [(at, n) for at, n in sorted(self._left) if self._held[at][n] <= appended_ms]

    def done(self, at: Partition, offset: int) -> None:
        """Hold a record no longer: it is stored or dropped."""
        self._waiting.pop((at, offset), None)
        self._left.discard((at, offset))
        self._held[at].pop(offset, None)

    def to_commit(self) -> dict[Partition, int]:
        """Return the offsets to commit that have changed since the last call."""
        offsets = {
            at: min(self._held.get(at, ()), default=end) for at, end in self._read_to.items()
        }
        changed = {at: each for at, each in offsets.items() if self._committed.get(at) != each}
        self._committed |= changed
        return changed
