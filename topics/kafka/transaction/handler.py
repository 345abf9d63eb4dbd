"""What a transactional loop is for: the decisions that it makes atomic."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class Handler(Protocol):
    """What the loop is for.  Called by one thread."""

    def assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """These partitions, and no others, are ours from here on; forget what was open.

        A start says if records before it were lost unread; what that means is decided here.
        """

    def ready(self, records: list[Record]) -> bool:
        """Whether these can be decided now.

        A transaction may be open: must not take longer than a small part of its timeout.
        """

    def wait(self) -> None:
        """Wait until what `ready` was asked for can be decided."""

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """What this record becomes."""

    def first_start(self, at: Partition) -> StartOffset | None:
        """Where a partition without a committed offset begins; None stops the process."""

    def metadata(self, partition: Partition) -> str:
        """What is committed with the offset of this partition."""
