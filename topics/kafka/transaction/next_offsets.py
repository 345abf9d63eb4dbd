"""Offsets that the next commit takes, with the handler's metadata and flags.

Rules, all of them:

1. Only partitions with a handled record have an offset to commit: the one after that record.
2. The next commit flags the offset of a broken partition (`partition_broken.py`).  After that
   commit it has no offset to commit, so that a repair is not overwritten.
"""

from collections.abc import Callable

from confluent_kafka import TopicPartition

from erasestream.topics.kafka.partition_broken import FLAGGED, Defect, Flagged, PartitionBroken
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class NextOffsets:
    """Next offsets of the partitions of one member; `metadata` returns a partition's metadata."""

    def __init__(self, metadata: Callable[[Partition], str]) -> None:
        self._metadata = metadata
        self._handled: dict[Partition, int] = {}
        self._committed: dict[Partition, StartOffset] = {}
        self._flags: dict[Partition, Defect] = {}

    @property
    def has_flags(self) -> bool:
        """Whether flags of broken partitions are to be committed."""
        return bool(self._flags)

    def restart(self, starts: dict[Partition, StartOffset]) -> None:
        """Begin again at these offsets, which are committed."""
        self._handled = {}
        self._committed |= starts

    def clear(self) -> None:
        """Forget all partitions."""
        self._handled, self._committed, self._flags = {}, {}, {}

    def handled(self, record: Record) -> None:
        """Move the next offset of a partition behind a record that was decided."""
        self._handled[record.at] = record.offset + 1

    def flag(self, broken: PartitionBroken) -> None:
        """Flag the partition's offset with the next commit, if the defect is flagged at all."""
        if broken.defect in FLAGGED:
            self._flags[broken.at] = broken.defect

    def to_commit(self) -> list[TopicPartition]:
        """Return the offsets to commit, with metadata and flags."""
        return [
            TopicPartition(
                *at, each.offset, metadata=str(Flagged(self._flags.get(at), each.metadata))
            )
            for at, each in self._next().items()
        ]

    def committed(self) -> None:
        """Note that the offsets to commit are committed."""
        self._committed |= self._next()
        for at in self._flags:
            self._handled.pop(at, None)
        self._flags = {}

    def _next(self) -> dict[Partition, StartOffset]:
        handled = {
            at: StartOffset(offset, self._metadata(at)) for at, offset in self._handled.items()
        }
        return {at: self._committed[at] for at in self._flags} | handled
