"""The decisions that a transactional loop makes atomic."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class Handler(Protocol):
    """Decides what each record becomes.  Called by one thread.

    Whatever is wrong with one partition is a `PartitionBroken` for it: the loop goes on without.
    """

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Take over exactly these partitions, and forget every uncommitted decision.

        A start tells whether unread records before it were deleted; the handler decides what
        that means.  Raises `PartitionBroken` for metadata that it cannot use.
        """

    def on_read(self, partitions: Collection[Partition]) -> None:
        """Note that records of these partitions were just read.

        A transaction may be open: take no longer than a small part of its timeout.
        """

    def is_ready(self, at: Partition) -> bool:
        """Return whether what was read of a partition can be decided now, without waiting.

        Asked again until it can.  Raises `PartitionBroken`.
        """

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """Return the records that this one becomes.

        Whatever it raises, it has changed nothing: the record may be handled again.
        """

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """Return where to start a partition without a committed offset; None if unprovable."""

    def offset_metadata(self, at: Partition) -> str:
        """Return the metadata that is committed with the offset of this partition."""
