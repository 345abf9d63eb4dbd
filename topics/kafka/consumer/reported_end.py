"""The end of a partition as its leader reports it, against the offset that a record claims.

A client can write any offset into a record of an uncompressed batch; the brokers store it, and
librdkafka believes it.  So what was read counts only up to the end that the leader reports beside
the records.  Where a lane can write, the topics are also compressed by the brokers, which then
number all records themselves (`topics/catalog/catalog.py`); this is for a cluster that is not
configured so.

A leader takes the end that it reports before it reads the records beside it, so that one which was
appended in between is beyond the end for a moment (seen with Kafka 4.4).  Such a record does not
count until a later response reports it.  It is called forged only once none has for `CONFIRM_S`.

A client that asks for it (`enable.partition.eof`) also reports that it has read a partition to its
end, and where that is: behind the markers that end transactions, which are no records.  To commit
this offset instead of the one behind the last record makes a group's lag 0.
"""

import logging
import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)


CONFIRM_S = 2.0
"""Several responses: a broker without new records answers within half a second."""


class ReadToEnd(NamedTuple):
    """A partition that was read to its end; `end` is the offset behind markers, too."""

    at: Partition
    end: int


class ReportedEnds:
    """The ends that came with the records that a consumer has fetched.  Asks no broker."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[Partition, int] = {}
        self._suspects: dict[Partition, tuple[int, Deadline]] = {}
        self.forged: set[Partition] = set()
        """Partitions in which a record claimed an offset at or beyond the end."""

    def covers(self, consumer: Consumer, at: Partition, end: int) -> bool:
        """Return whether the log reaches this end.

        After a change of leaders this can be False for a moment although it does: a new leader
        learns the end from the others.
        """
        if end > self._ends.get(at, 0) or at in self._suspects:
            # For readers of committed records it is the end of these.
            _, reported = consumer.get_watermark_offsets(TopicPartition(*at), cached=True)
            self._ends[at] = max(self._ends.get(at, 0), reported)
            self._judge(at)
        return end <= self._ends.get(at, 0)

    def read_to_end(self, consumer: Consumer, message: Message) -> ReadToEnd | None:
        """Return the end that was read to, if the message reports one and the log reaches it."""
        reported = _read_to_end(message)
        if reported is None or not self.covers(consumer, reported.at, reported.end):
            return None
        return reported

    def suspect(self, at: Partition, offset: int) -> None:
        """Note a record at or beyond the end, to be logged once if no later end is beyond it."""
        if at not in self.forged:
            self._suspects.setdefault(at, (offset, Deadline(CONFIRM_S, self._clock)))

    def _judge(self, at: Partition) -> None:
        if at not in self._suspects:
            return
        offset, confirmed = self._suspects[at]
        if offset < self._ends[at]:
            del self._suspects[at]
        elif confirmed.has_passed:
            del self._suspects[at]
            self.forged.add(at)
            fields = {"topic": at.topic, "partition": at.number, "offset": offset}
            log.warning("forged_offset", extra=fields)


def _read_to_end(message: Message) -> ReadToEnd | None:
    error, topic = message.error(), message.topic()
    number, offset = message.partition(), message.offset()
    if error is None or error.code() != KafkaError._PARTITION_EOF:
        return None
    if topic is None or number is None or offset is None:
        return None
    return ReadToEnd(Partition(topic, number), offset)
