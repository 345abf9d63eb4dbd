"""Heartbeats: records that keep the compaction of the consent topics going.

Kafka compacts only what lies in segments that have ended, and a segment ends with the next
record after its time.  Where nobody decides anything no record comes, and a decision that was
superseded would stay on disk for ever.  So every partition gets a record of its own now and
then, under a key that no account can have; all readers pass over it.
"""

from collections.abc import Mapping

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.events.consent import HEARTBEAT_KEY
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

_NOTHING = Wire(headers=[], value=b"")
"""Empty and not null: a null would be a tombstone, which goes before its segment does."""


class CompactionHeartbeat:
    """Writes them; who is allowed to stands in the catalog."""

    def __init__(self, *, writes: AcknowledgedWriter, partitions: Mapping[str, int]) -> None:
        """`partitions`: how many each of the topics has."""
        self._writes = writes
        self._places = [
            Partition(topic, n) for topic, count in partitions.items() for n in range(count)
        ]

    def beat(self) -> None:
        """One record in every partition.  Raises `Unavailable` or `Refused` if one failed."""
        for answer in self._writes.write_all(
            [(at, HEARTBEAT_KEY, _NOTHING) for at in self._places]
        ):
            answer.result()
