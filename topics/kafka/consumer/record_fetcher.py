"""Read an upload again, by its partition and offset.

There is no reset policy: with one, the offset of a purged upload delivers another customer's photo
(measured).  A deleted record is reported as deleted.

Reads ahead, since the next record asked for is mostly the next in the partition; records read ahead
are bounded in bytes.  Rules, all of them:

* A partition is read from the offset that was sought.  An offset before it, or more than
  `MAX_SKIP` records ahead of what has arrived, is sought again.
* Records before the offset asked for are dropped; beyond `MAX_SKIP_BYTES` of them the offset is
  sought after all.
* A record is deleted if its broker reports exactly its offset as out of range, or delivers a later
  record first.
* No answer within `ANSWER_TIMEOUT_S` is `Unavailable`; the record may exist or not.

One thread.
"""

import time
from collections import deque
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, TopicPartition

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.records import Partition, Record

MAX_HELD_BYTES = 64_000_000
"""Bound of the records read ahead, beside librdkafka's own queue of the same size."""
MAX_SKIP = 64
"""An offset further ahead than this is sought; a nearer one is read through to."""
MAX_SKIP_BYTES = 4_000_000
"""After reading so much on the way to an offset, it is sought after all: uploads can be large."""
ANSWER_TIMEOUT_S = 10.0
"""A partition without a record for this long counts as unavailable."""
POLL_S = 0.1


@dataclass
class _ReadAhead:
    """Records of one partition, read from the offset that was sought."""

    sought: int
    next_offset: int
    """Offset after the last record that arrived."""
    records: deque[Record] = field(default_factory=deque)
    out_of_range: int | None = None
    """Offset that the broker does not have."""

    def leads_to(self, offset: int) -> bool:
        """Return whether reading on delivers this offset soon."""
        start = self.records[0].offset if self.records else self.next_offset
        return start <= offset <= self.next_offset + MAX_SKIP

    def skip_to(self, offset: int) -> int:
        """Drop the records before this offset; return their bytes."""
        skipped = 0
        while self.records and self.records[0].offset < offset:
            skipped += len(self.records.popleft().value)
        return skipped

    def take(self, offset: int) -> Record | None:
        """Return the first record if it has this offset; None if the offset is deleted."""
        return self.records.popleft() if self.records[0].offset == offset else None


class RecordFetcher:
    """Uploads by partition and offset."""

    def __init__(self, *, connection: Connection, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.received = 0
        """Records from the brokers, including those that were not asked for."""
        self._errors = ClientErrorState()
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._reading: dict[Partition, _ReadAhead] = {}
        self._settings = connection.settings(
            self._errors,
            group_id=connection.role,  # never joined: partitions are assigned
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="error",
            fetch_wait_max_ms=100,
            queued_max_messages_kbytes=MAX_HELD_BYTES // 1000,
            fetch_message_max_bytes=4_000_000,
        )
        self._consumer = Consumer(self._settings)

    def read(self, at: Partition, offset: int) -> Record | None:
        """Return the record at this offset; None if it is deleted.

        Raises `Unavailable` if the broker does not answer: the record may exist or not.
        """
        deadline = Deadline(ANSWER_TIMEOUT_S, self._clock)
        skipped_bytes = 0
        while True:
            ahead = self._seek(at, offset)
            skipped_bytes += ahead.skip_to(offset)
            if ahead.records:
                return ahead.take(offset)
            if ahead.out_of_range is not None:
                self._drop(at)
                if ahead.out_of_range == offset:
                    return None
                # Another offset is out of range, before this one or of an earlier assignment:
                # librdkafka can report it after that ended, and may stop the next one with it.
                continue
            if skipped_bytes > MAX_SKIP_BYTES and ahead.sought != offset:
                self._drop(at)
                continue
            if self._receive(at) == at:
                deadline = Deadline(ANSWER_TIMEOUT_S, self._clock)
            elif deadline.has_passed:
                error = self._errors.explain(f"reading {at} again: no answer")
                self._give_up(at)
                raise error

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _seek(self, at: Partition, offset: int) -> _ReadAhead:
        """Make sure that reading on leads to the offset."""
        ahead = self._reading.get(at)
        if ahead is not None and ahead.leads_to(offset):
            return ahead
        self._drop(at)
        ahead = self._reading[at] = _ReadAhead(sought=offset, next_offset=offset)
        self._consumer.incremental_assign([TopicPartition(*at, offset)])
        return ahead

    def _drop(self, at: Partition) -> None:
        """Stop reading the partition, and drop what was read ahead."""
        if self._reading.pop(at, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(*at)])

    def _give_up(self, at: Partition) -> None:
        """Drop a partition that does not answer, and replace a lost client."""
        self._drop(at)
        if self._broker_loss.is_lost(self._consumer):
            for each in list(self._reading):
                self._drop(each)
            lost, self._consumer = self._consumer, Consumer(self._settings)
            lost.close()

    def _receive(self, asked: Partition) -> Partition | None:
        """Take the next message; return the partition if it was a record."""
        message = self._consumer.poll(POLL_S)
        if message is None:
            return None
        error = message.error()
        if error is None:
            self.received += 1
            record = Record.of(message)
            if (ahead := self._reading.get(record.at)) is not None:
                ahead.records.append(record)
                ahead.next_offset = record.offset + 1
                self._evict(asked)
            return record.at
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            at = Partition(str(message.topic()), message.partition() or 0)
            if (ahead := self._reading.get(at)) is not None:
                offset = message.offset()
                ahead.out_of_range = -1 if offset is None else offset
        elif not isinstance(translate(error), Unavailable):
            raise translate(error, "reading uploads again")
        else:
            self._errors(error)
        return None

    def _evict(self, asked: Partition) -> None:
        """Drop the largest partition that was not asked for, if too much was read ahead."""
        sizes = {
            at: sum(len(record.value) for record in ahead.records)
            for at, ahead in self._reading.items()
        }
        others = [at for at in sizes if at != asked]
        if others and sum(sizes.values()) > MAX_HELD_BYTES:
            self._drop(max(others, key=lambda at: sizes[at]))
