"""The partitions of one member: since when, where each is read from, and the next offsets.

Rules, all of them:

1. The group assigns a set of partitions, perhaps an empty one.  It revokes all of them before it
   assigns another set.
2. Assigned partitions are read from their start offsets (`start_offsets.py`), which the handler
   takes over first.  Reading restarts there after every abort.
3. Each assignment, restart or revocation begins another epoch.  If one begins during a read, the
   records of that read cannot be distinguished by epoch: drop them and restart.
4. A position out of range begins another epoch, too: another position than the start offset may
   be where reading had got to, or that of an earlier assignment, since librdkafka lets such an
   error outlive it.  A start offset out of range stops the process.
5. If the group has rebalanced before the start offsets are found, nothing is assigned until the
   group assigns partitions again.
6. Only partitions with a handled record have an offset to commit: the one after that record.
"""

from confluent_kafka import TopicPartition

from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.consumer import TransactionalConsumer
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.start_offsets import StaleGeneration, StartOffsets


class Assignment:
    """Partitions and offsets of one member of the group, as far as the member knows."""

    def __init__(
        self, *, consumer: TransactionalConsumer, start_offsets: StartOffsets, handler: Handler
    ) -> None:
        self._consumer = consumer
        self._finder = start_offsets
        self._handler = handler
        self.is_known = False
        """Whether the group has assigned this member its partitions; there may be none."""
        self.epoch = 0
        self._start_offsets: dict[Partition, int] = {}
        self._next_offsets: dict[Partition, int] = {}

    def __contains__(self, at: Partition) -> bool:
        return at in self._start_offsets

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that are being read."""
        return list(self._start_offsets)

    def assign(self, partitions: list[Partition]) -> None:
        """Read what the group has assigned."""
        self.is_known = True
        self._start(partitions)

    def restart(self) -> None:
        """Read the same partitions again from their start offsets."""
        self._start(self.partitions)

    def revoke(self) -> None:
        """Forget all partitions, which the group has revoked."""
        self.epoch += 1
        self._forget()

    def reject_position(self, at: Partition, offset: int | None) -> None:
        """Begin another epoch because a position is out of range.

        Raises `InvariantBroken` if it is the start offset.
        """
        if self._start_offsets.get(at) == offset:
            raise InvariantBroken(f"{at}: the committed offset is not there any more")
        self.epoch += 1

    def handled(self, record: Record) -> None:
        """Move the next offset of a partition behind a record that was decided."""
        self._next_offsets[record.at] = record.offset + 1

    def next_offsets(self) -> list[TopicPartition]:
        """Return the offsets to commit, with the handler's metadata."""
        return [
            TopicPartition(*at, offset, metadata=self._handler.offset_metadata(at))
            for at, offset in self._next_offsets.items()
        ]

    def _start(self, partitions: list[Partition]) -> None:
        self.epoch += 1
        if not partitions:
            return
        try:
            starts = self._finder.find(partitions)
        except StaleGeneration:
            # The client learns of the rebalance by itself, and reports the new assignment.
            self._forget()
            self._consumer.assign({})
            return
        self._start_offsets = {at: start.offset for at, start in starts.items()}
        self._next_offsets = {}
        self._handler.on_assigned(starts)
        self._consumer.assign(starts)

    def _forget(self) -> None:
        self.is_known = False
        self._start_offsets, self._next_offsets = {}, {}
