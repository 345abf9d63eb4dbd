"""Read whole topics, independently of the code under test."""

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import UploadId
from erasestream.topics.catalog.roles import Role
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Record
from tests.flow.waiting import DEADLINE_S

COMMITTED = "read_committed"
UNCOMMITTED = "read_uncommitted"
ATTEMPT_S = 15.0
"""Longest wait of a client for an answer; after it, another client asks."""


class TopicReader:
    """Every record of a topic that is not deleted, from the first: none is deduplicated."""

    def __init__(
        self,
        cluster: Cluster,
        role: Role,
        topic: str,
        partitions: int,
        isolation: str = COMMITTED,
        *,
        fetch_wait_ms: int = 50,
    ) -> None:
        """`fetch_wait_ms`: how long it may take to notice the end, and to ask a broker again."""
        self.records: list[Record] = []
        self._events: list[Cutout | Failure] = []
        self._partitions = [TopicPartition(topic, n, 0) for n in range(partitions)]
        self._ends: dict[int, int] = {}
        """Per partition, the last end that was reached."""
        self._settings = lambda: Connection(cluster=cluster, role=role).settings(
            ClientErrorState(),
            group_id=f"{role}.topic-reader",  # never joined: partitions are assigned
            enable_auto_commit=False,
            enable_partition_eof=True,
            isolation_level=isolation,
            # The first records may be deleted; the default continues at the end.
            auto_offset_reset="earliest",
            fetch_wait_max_ms=fetch_wait_ms,
            fetch_error_backoff_ms=50,
            receive_message_max_bytes=2 * MAX_RECORD_BYTES,
        )
        self._consumer = self._open()

    def _open(self) -> Consumer:
        consumer = Consumer(self._settings())
        consumer.assign(self._partitions)
        return consumer

    def read(self, timeout_s: float = 0.1) -> list[Record]:
        """Read for `timeout_s` and return all records read so far."""
        for message in self._consumer.consume(500, timeout_s):
            error = message.error()
            if error is None:
                record = Record.of(message)
                self.records.append(record)
                self._partitions[record.at.number].offset = record.offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends[message.partition() or 0] = message.offset() or 0
        return self.records

    def read_events(self) -> list[Cutout | Failure]:
        """Read for a moment and return all results read so far, each decoded once."""
        self._events += map(event_of, self.read()[len(self._events) :])
        return self._events

    def read_to_end(self) -> list[Record]:
        """Read every partition to its present end and return all records so far."""
        for at in self._partitions:
            end = self._end(at)
            while self._ends.get(at.partition, -1) < end:
                self.read()
        return self.records

    def _end(self, at: TopicPartition) -> int:
        """Return the end offset; replace a client that has lost its brokers, as after a restart."""
        deadline = Deadline(DEADLINE_S, time.monotonic)
        while True:
            try:
                _, end = self._consumer.get_watermark_offsets(at, timeout=ATTEMPT_S)
            except KafkaException:
                if deadline.has_passed:
                    raise
                self._consumer.close()
                self._consumer = self._open()
            else:
                return end

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def event_of(record: Record) -> Cutout | Failure:
    """Decode the result in a record."""
    if type_of(record.headers) is Failure:
        return from_wire(Failure, record.headers, record.value)
    return from_wire(Cutout, record.headers, record.value)


def results_of(records: Iterable[Record], upload: UploadId) -> list[Cutout | Failure]:
    """Return all results of one upload."""
    wanted = upload.encode()
    return [event_of(r) for r in records if dict(r.headers).get("ce_id") == wanted]


def ids_in(records: Iterable[Record]) -> list[UploadId]:
    """Return the upload id of each record."""
    return [UploadId(dict(record.headers)["ce_id"].decode()) for record in records]
