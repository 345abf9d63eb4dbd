"""Heartbeat records that keep the compaction of topics without images going.

Kafka compacts closed segments only, and a segment rolls with the first record after its time.  In
a partition without new decisions, or API keys, it would never roll, and a superseded one would
stay on disk.  So every partition regularly gets a heartbeat record, under a key that no account and
no API key can have; all readers skip it.
"""

from collections.abc import Mapping

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import HEARTBEAT_KEY
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

WAIT_S = 1.0
"""Longest wait for the brokers: an eraser has other work."""
_NOTHING = Wire(headers=[], value=b"")
"""Empty and not null: a null would be a tombstone, which is removed before its segment."""


class CompactionHeartbeat:
    """Writes heartbeats; the catalog determines which role may."""

    def __init__(self, *, writes: AcknowledgedWriter, partitions: Mapping[str, int]) -> None:
        """Write to these topics; `partitions` are their partition counts."""
        self._writes = writes
        self._partitions = [
            Partition(topic, n) for topic, count in partitions.items() for n in range(count)
        ]

    def beat(self) -> None:
        """Write one record to every partition.

        Raises `Unavailable` or `Refused` if one fails, or takes longer than `WAIT_S`; it may be
        written later.
        """
        answers = self._writes.begin([(at, HEARTBEAT_KEY, _NOTHING) for at in self._partitions])
        self._writes.wait(answers, timeout_s=WAIT_S)
        for at, answer in zip(self._partitions, answers, strict=True):
            if not answer.done():
                raise Unavailable(f"{at}: no answer yet")
            answer.result()
