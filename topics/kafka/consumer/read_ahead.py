"""Records that were read ahead of what was asked for, bounded in bytes and in number.

For the rules see `record_fetcher.py`.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Message, TopicPartition

from erasestream.topics.kafka.records import Partition

MAX_HELD_BYTES = 64_000_000
"""Bound of the records read ahead, beside librdkafka's own queue of the same size."""
MAX_HELD_RECORDS = 16
"""Bound of the records read ahead in a partition that is not asked for."""
MAX_SKIP = 64
"""An offset further ahead than this is sought; a nearer one is read through to."""


@dataclass
class ReadAhead:
    """Records of one partition, read from the offset that was sought, without a gap."""

    sought: int
    records: deque[Message] = field(default_factory=deque)
    next_offset: int = field(init=False)
    """Offset after the last record that arrived."""
    missing: int | None = None
    """Offset that the broker does not have."""

    def __post_init__(self) -> None:
        self.next_offset = self.sought

    def leads_to(self, offset: int) -> bool:
        """Return whether reading on delivers this offset soon."""
        first = self.next_offset - len(self.records)
        return first <= offset <= self.next_offset + MAX_SKIP

    def add(self, message: Message) -> bool:
        """Take the next record; return False unless it continues the others."""
        if message.offset() == self.next_offset:
            self.records.append(message)
            self.next_offset += 1
            return True
        if self.next_offset == self.sought:
            self.missing = self.sought
            return True
        return False

    def skip_to(self, offset: int) -> int:
        """Drop the records before this offset; return their bytes."""
        skipped = 0
        while self.records and self.next_offset - len(self.records) < offset:
            skipped += len(self.records.popleft())
        return skipped


class PartitionsAhead:
    """The partitions that a consumer reads ahead, each assigned while it is read."""

    def __init__(self) -> None:
        self._reading: dict[Partition, ReadAhead] = {}

    def seek(self, consumer: Consumer, at: Partition, offset: int) -> ReadAhead:
        """Make sure that reading on leads to the offset."""
        ahead = self._reading.get(at)
        if ahead is not None and ahead.leads_to(offset):
            return ahead
        self.drop(consumer, at)
        ahead = self._reading[at] = ReadAhead(offset)
        consumer.incremental_assign([TopicPartition(*at, offset)])
        return ahead

    def drop(self, consumer: Consumer, at: Partition) -> None:
        """Stop reading the partition, and drop what was read ahead."""
        if self._reading.pop(at, None) is not None:
            consumer.incremental_unassign([TopicPartition(*at)])

    def drop_all(self, consumer: Consumer) -> None:
        """Stop reading all partitions."""
        for at in list(self._reading):
            self.drop(consumer, at)

    def add(self, consumer: Consumer, at: Partition, message: Message) -> None:
        """Take a record; stop reading the partition if the record does not continue it."""
        ahead = self._reading.get(at)
        if ahead is not None and not ahead.add(message):
            self.drop(consumer, at)

    def report_missing(self, at: Partition, offset: int | None) -> None:
        """Note that the broker does not have this offset."""
        if (ahead := self._reading.get(at)) is not None:
            ahead.missing = -1 if offset is None else offset

    def evict(self, consumer: Consumer, asked: Partition, wanted: Collection[Partition]) -> None:
        """Drop what exceeds the bounds, but never of the partition asked for.

        The largest partition is dropped if there are too many bytes; too many records are dropped
        of each partition that is not `wanted` soon.
        """
        sizes = {at: sum(map(len, ahead.records)) for at, ahead in self._reading.items()}
        others = [at for at in sizes if at != asked]
        if others and sum(sizes.values()) > MAX_HELD_BYTES:
            self.drop(consumer, max(others, key=lambda at: sizes[at]))
        for at in others:
            if at in wanted or at not in self._reading:
                continue
            if len(self._reading[at].records) > MAX_HELD_RECORDS:
                self.drop(consumer, at)
