"""Records that were read and are not decided, in their order within each partition.

Most are decided at once.  A partition that cannot be decided yet is held: its records stay here,
the consumer is paused for it, and all other partitions go on.
"""

from collections import deque
from collections.abc import Iterable

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.kafka.backoff import pause_s
from erasestream.topics.kafka.records import Partition, Record

MAX_HELD_BYTES = 16_000_000
"""Beyond it, held records are read again instead."""
MAX_PAUSE_S = 0.1
"""Longest pause of a partition.  Its dependency may only be slow, as a large original is: with
growing pauses, one that came in a tenth of a second would wait for five."""


class ReadRecords:
    """The records of one loop that are not decided.  One thread."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[Partition, deque[Record]] = {}
        self._pauses: dict[Partition, Deadline] = {}
        self._failures: dict[Partition, int] = {}

    @property
    def partitions(self) -> list[Partition]:
        """The partitions with records."""
        return list(self._records)

    def add(self, records: Iterable[Record]) -> None:
        """Add records behind those of their partitions."""
        for record in records:
            self._records.setdefault(record.at, deque()).append(record)

    def first(self, at: Partition) -> Record | None:
        """Return the next record of a partition."""
        records = self._records.get(at)
        return records[0] if records else None

    def remove_first(self, at: Partition) -> None:
        """Remove the next record of a partition, which is decided."""
        self._failures.pop(at, None)
        self._records[at].popleft()
        if not self._records[at]:
            del self._records[at]

    def pause(self, at: Partition) -> None:
        """Leave a partition alone for a while: the first time until the next round."""
        self._failures[at] = self._failures.get(at, 0) + 1
        self._pauses[at] = Deadline(pause_s(self._failures[at], MAX_PAUSE_S), self._clock)

    def is_paused(self, at: Partition) -> bool:
        """Return whether a partition is to be left alone for now."""
        return at in self._pauses and not self._pauses[at].has_passed

    def end_pauses(self) -> list[Partition]:
        """Return the partitions whose pauses have just ended."""
        ended = [at for at, pause in self._pauses.items() if pause.has_passed]
        for at in ended:
            del self._pauses[at]
        return [at for at in ended if at in self._records]

    def drop(self, at: Partition) -> None:
        """Forget the records of a partition."""
        for each in (self._records, self._pauses, self._failures):
            each.pop(at, None)

    def clear(self) -> None:
        """Forget all records: they are read again."""
        self._records, self._pauses = {}, {}

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all records."""
        return sum(len(record.value) for records in self._records.values() for record in records)
