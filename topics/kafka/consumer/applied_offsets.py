"""How far a view has applied the partitions that its consumer reads.

Rules, all of them:

* A record counts as applied once `record_all` was called with it.
* Offsets without records (compacted) count once the consumer's position is beyond them.
* An offset beyond the end that the leader reported advances nothing, and is logged if no later end
  is beyond it (`reported_end.py`).
"""

from collections.abc import Iterable, Mapping, Sequence

from erasestream.topics.kafka.consumer.assigned_consumer import AssignedConsumer
from erasestream.topics.kafka.records import Partition, Record


class AppliedOffsets:
    """Per partition the offset after the last record that was applied."""

    def __init__(self, consumer: AssignedConsumer, starts: Mapping[Partition, int]) -> None:
        """Begin at the offsets from which the consumer is assigned its partitions."""
        self._consumer = consumer
        self._offsets = dict(starts)

    @property
    def offsets(self) -> Mapping[Partition, int]:
        """The offsets as of now; later records change the mapping."""
        return self._offsets

    def record_all(self, records: Sequence[Record]) -> None:
        """Note that records were applied, in this order."""
        last: dict[Partition, int] = {}
        highest: dict[Partition, int] = {}
        for record in records:
            at, offset = record[0], record[1]
            last[at] = offset
            if offset > highest.get(at, -1):
                highest[at] = offset
        if all(self._consumer.reaches(at, offset + 1) for at, offset in highest.items()):
            for at, offset in last.items():
                self._offsets[at] = offset + 1
        else:
            for record in records:
                self._record(record)

    def _record(self, record: Record) -> None:
        if self._consumer.reaches(record.at, record.offset + 1):
            self._offsets[record.at] = record.offset + 1
        else:
            self._consumer.suspect(record.at, record.offset)

    def missing(self, mark: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return the part of the mark that is not reached, by what was counted so far."""
        return {at: end for at, end in mark.items() if self._offsets[at] < end}

    def have_reached(self, mark: Mapping[Partition, int]) -> bool:
        """Return whether the mark is reached, also past offsets without records."""
        self.pass_gaps()
        return all(self._offsets[at] >= offset for at, offset in mark.items())

    def pass_gaps(self) -> None:
        """Count offsets without records before the consumer's position as applied."""
        for at, offset in self._consumer.positions(self._offsets).items():
            if offset > self._offsets[at] and self._consumer.reaches(at, offset):
                self._offsets[at] = offset

    def reread(self, partitions: Iterable[Partition]) -> None:
        """Read some of the partitions again from the beginning."""
        self._offsets |= dict.fromkeys(partitions, 0)
        self._consumer.resume(self._offsets)

    def replace_if_lost(self) -> None:
        """Replace a client that has lost its brokers; the new one reads on."""
        self._consumer.replace_if_lost(self._offsets)

    def replace_if_renewed(self) -> None:
        """Replace a client whose certificate was renewed; the new one reads on."""
        self._consumer.replace_if_renewed(self._offsets)
