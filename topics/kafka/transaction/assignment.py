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
   error outlive it.  A partition whose start offset is out of range is broken.
5. If the group has rebalanced before the start offsets are found, nothing is assigned until the
   group assigns partitions again.
6. A broken partition is quarantined (`quarantine.py`): it is read no more, and the next commit
   flags its offset (`next_offsets.py`).  All other partitions are read as if it did not exist.
"""

from confluent_kafka import TopicPartition

from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.consumer import TransactionalConsumer
from erasestream.topics.kafka.transaction.handler import Handler
from erasestream.topics.kafka.transaction.next_offsets import NextOffsets
from erasestream.topics.kafka.transaction.quarantine import Quarantine
from erasestream.topics.kafka.transaction.start_offsets import (
    StaleGeneration,
    StartOffset,
    StartOffsets,
)


class Assignment:
    """Partitions and offsets of one member of the group, as far as the member knows."""

    def __init__(
        self,
        *,
        consumer: TransactionalConsumer,
        start_offsets: StartOffsets,
        handler: Handler,
        quarantine: Quarantine,
    ) -> None:
        self._consumer = consumer
        self._finder = start_offsets
        self._handler = handler
        self._quarantine = quarantine
        self.is_known: bool = False
        """Whether the group has assigned this member its partitions; there may be none."""
        self.epoch: int = 0
        self._assigned: list[Partition] = []
        self._start_offsets: dict[Partition, int] = {}
        self._next = NextOffsets(handler.offset_metadata)

    def __contains__(self, at: Partition) -> bool:
        return at in self._start_offsets

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that are being read."""
        return list(self._start_offsets)

    @property
    def has_flags(self) -> bool:
        """Whether flags of broken partitions are to be committed."""
        return self._next.has_flags

    def assign(self, partitions: list[Partition]) -> None:
        """Read what the group has assigned."""
        self.is_known = True
        self._assigned = partitions
        self.restart()

    def restart(self) -> None:
        """Read the partitions that are not quarantined, again from their start offsets."""
        self.epoch += 1
        if not self._assigned:
            return
        wanted = [at for at in self._assigned if at not in self._quarantine]
        try:
            found = self._finder.find(wanted)
        except StaleGeneration:
            # The client learns of the rebalance by itself, and reports the new assignment.
            self._forget()
            self._consumer.assign({})
            return
        for broken in found.broken:
            self._quarantine.add(broken)
        for at in found.postponed:
            self._quarantine.postpone(at)
        self._take_over(found.starts)

    def revoke(self) -> None:
        """Forget all partitions, which the group has revoked."""
        self.epoch += 1
        self._forget()

    def reject_position(self, at: Partition, offset: int | None) -> None:
        """Begin another epoch because a position is out of range; quarantine a start offset."""
        if self._start_offsets.get(at) == offset:
            detail = f"{at}: the committed offset is not there any more"
            self.quarantine(PartitionBroken(at, Defect.OFFSET_OUT_OF_RANGE, detail))
        self.epoch += 1

    def quarantine(self, broken: PartitionBroken) -> None:
        """Read a partition no more, from the next restart on."""
        if broken.at not in self._start_offsets:
            return  # revoked meanwhile
        self._quarantine.add(broken)
        self._next.flag(broken)

    def postpone(self, at: Partition) -> None:
        """Read a partition again a moment later."""
        self._quarantine.postpone(at)

    def handled(self, record: Record) -> None:
        """Move the next offset of a partition behind a record that was decided."""
        self._next.handled(record)

    def next_offsets(self) -> list[TopicPartition]:
        """Return the offsets to commit, with the handler's metadata, and flags."""
        return self._next.to_commit()

    def committed(self) -> None:
        """Note that the next offsets are committed."""
        self._next.committed()

    def _take_over(self, starts: dict[Partition, StartOffset]) -> None:
        while True:
            try:
                self._handler.on_assigned(starts)
            except PartitionBroken as broken:
                self._quarantine.add(broken)
                del starts[broken.at]
            else:
                break
        self._start_offsets = {at: start.offset for at, start in starts.items()}
        self._next.restart(starts)
        self._consumer.assign(starts)

    def _forget(self) -> None:
        self.is_known = False
        self._assigned, self._start_offsets = [], {}
        self._next.clear()
        self._quarantine.clear()
