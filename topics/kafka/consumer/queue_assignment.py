"""Partitions that the group has assigned to a member of a work queue, and what was read of them.

Rules:

* A new assignment begins without pauses and without ends; a revocation drops what was to be
  committed.
* Partitions are paused by topic.  Only those that change are paused or resumed: the client drops
  what it has fetched of them.
"""

from collections.abc import Collection

from confluent_kafka import Consumer, TopicPartition

from erasestream.topics.kafka.consumer.offset_commits import OffsetCommits
from erasestream.topics.kafka.consumer.reported_end import ReadToEnd
from erasestream.topics.kafka.records import Partition


class QueueAssignment:
    """The partitions of one member."""

    def __init__(self, commits: OffsetCommits) -> None:
        self._commits = commits
        self.partitions: frozenset[Partition] = frozenset()
        self._paused: set[Partition] = set()
        self._read_to: dict[Partition, int] = {}
        self.count = 0
        """How often the group has assigned partitions."""

    def on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take what the group has assigned."""
        self.partitions = frozenset(Partition(tp.topic, tp.partition) for tp in partitions)
        self._paused, self._read_to = set(), {}
        self.count += 1

    def on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        """Give everything back."""
        self.partitions, self._paused = frozenset(), set()
        self._commits.clear()

    def pause(self, consumer: Consumer, topics: Collection[str]) -> None:
        """Read no records of these topics, and go on with those of all others."""
        paused = {at for at in self.partitions if at.topic in topics}
        if begun := paused - self._paused:
            consumer.pause([TopicPartition(*at) for at in begun])
        if ended := self._paused - paused:
            consumer.resume([TopicPartition(*at) for at in ended])
        self._paused = paused

    def read_to_end(self, found: ReadToEnd) -> None:
        """Note that a partition was read to its end."""
        self._read_to[found.at] = found.end

    def take_ends(self) -> dict[Partition, int]:
        """Return the partitions that were read to their ends since the last call, with the ends."""
        ends, self._read_to = self._read_to, {}
        return ends
