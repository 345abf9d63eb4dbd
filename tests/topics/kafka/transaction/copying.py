"""A handler of the exactly-once loop that hands every record on: what tests of the loop spoil."""

from collections.abc import Iterable, Mapping

from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class Copy:
    """Writes what it reads; what it does in between is given."""

    def __init__(self, to: str) -> None:
        self.handled: list[bytes] = []
        self._to = to

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Nothing is remembered."""

    def is_ready(self) -> bool:
        """Always."""
        return True

    def wait_until_ready(self) -> None:
        """For nothing."""

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """The same, in another topic."""
        yield Outgoing(self._to, record.at.number, None, [], record.value)
        self.between(record)
        self.handled.append(record.value)

    def between(self, record: Record) -> None:
        """What happens once half of the decision is written."""

    def initial_offset(self, _at: Partition) -> StartOffset | None:
        """At the beginning."""
        return StartOffset(0, "")

    def offset_metadata(self, _at: Partition) -> str:
        """None."""
        return ""
