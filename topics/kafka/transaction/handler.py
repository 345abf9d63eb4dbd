"""The decisions that a transactional loop makes atomic."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class Handler(Protocol):
    """Decides what each record becomes.  Called by one thread."""

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Take over exactly these partitions, and forget every uncommitted decision.

        A start tells whether unread records before it were deleted; the handler decides what
        that means.
        """

    def is_ready(self) -> bool:
        """Return whether the records that were just read can be decided now.

        A transaction may be open: take no longer than a small part of its timeout.
        """

    def wait_until_ready(self) -> None:
        """Wait until the records that were just read can be decided.  No transaction is open."""

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """Return the records that this one becomes."""

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """Return where to start a partition without a committed offset; None stops the process."""

    def offset_metadata(self, at: Partition) -> str:
        """Return the metadata that is committed with the offset of this partition."""
