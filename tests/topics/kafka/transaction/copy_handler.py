"""A handler of the exactly-once loop that copies every record; tests override what it does."""

from collections.abc import Collection, Iterable, Mapping

from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class CopyHandler:
    """Copies each record to the partition of the same number in another topic."""

    def __init__(self, to: str) -> None:
        self.handled: list[bytes] = []
        self._to = to

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        pass

    def on_read(self, partitions: Collection[Partition]) -> None:
        assert partitions

    def is_ready(self, at: Partition) -> bool:
        assert at.topic
        return True

    def handle(self, record: Record) -> Iterable[Outgoing]:
        yield Outgoing(self._to, record.at.number, None, [], record.value)
        self.on_half_decided(record)
        self.handled.append(record.value)

    def on_half_decided(self, record: Record) -> None:
        """Do something once half of the decision is written."""

    def initial_offset(self, _at: Partition) -> StartOffset | None:
        return StartOffset(0, "")

    def offset_metadata(self, _at: Partition) -> str:
        return ""
