"""Observe every topic during a storm, with a bare client and a certificate of its own.

The observer reads every record from the first offset on, because the purger deletes records
that are no longer needed; of a picture it keeps a digest only.  It does not use our event codec.
"""

import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

BATCH = 500
OF_PICTURES = ("uploads.", "cutouts.", "ephemeral.", "retained")


class ObservedRecord(NamedTuple):
    """A record: its CloudEvents attributes, its position, and when the broker appended it."""

    attributes: Mapping[str, str]
    partition: int
    offset: int
    appended_ms: int
    body: Mapping[str, str] = MappingProxyType({})
    """The value of a record without a picture."""
    digest: bytes = b""
    """The digest of a picture, to recognise the same bytes later."""


Topics = Mapping[str, Mapping[tuple[int, int], ObservedRecord]]
"""Per topic, the records by partition and offset."""


def records_of_kind(topics: Topics, kind: str) -> Iterator[tuple[str, ObservedRecord]]:
    """Yield lane and record of all topics of a kind, in the order of their offsets."""
    for topic, records in topics.items():
        name, _, lane = topic.partition(".")
        if name == kind:
            yield from ((lane, records[at]) for at in sorted(records))


class Observer:
    """A thread that reads `topics` (name: partitions) until it is closed."""

    def __init__(self, settings: Mapping[str, Any], topics: Mapping[str, int]) -> None:
        self.records: dict[str, dict[tuple[int, int], ObservedRecord]] = {
            topic: {} for topic in topics
        }
        self.missed: Counter[str] = Counter()
        """Per topic, how often records were deleted before the observer read them."""
        self.count = 0
        """Records of pictures that were read: uploads, cut-outs, results and hand-overs."""
        self.results: set[str] = set()
        """The ids of the uploads that have a result."""
        self._consumer = Consumer(
            dict(settings)
            | {
                "group.id": "checker",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                # Latency does not matter; else each record of eighty partitions is fetched alone.
                "fetch.min.bytes": 100_000,
                "fetch.wait.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 5000,
                "queued.max.messages.kbytes": 32_768,
            }
        )
        self._next = {(name, n): 0 for name, count in topics.items() for n in range(count)}
        """Per partition, the offset after the last record that was read."""
        self._consumer.assign([TopicPartition(*at, 0) for at in self._next])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading and close the consumer."""
        self._closing.set()
        self._thread.join(30)
        self._consumer.close()

    def _read(self) -> None:
        while not self._closing.is_set():
            for message in self._consumer.consume(BATCH, 0.2):
                error = message.error()
                if error is None:
                    self._add(message)
                elif error.code() in (
                    KafkaError._AUTO_OFFSET_RESET,
                    KafkaError.OFFSET_OUT_OF_RANGE,
                ):
                    self._skip_deleted(message)

    def _add(self, message: Message) -> None:
        topic = str(message.topic())
        headers = {str(n): bytes(v or b"").decode() for n, v in message.headers() or []}  # type: ignore[arg-type]
        number, offset = at = (int(message.partition() or 0), int(message.offset() or 0))
        self._next[topic, number] = offset + 1
        value = bytes(message.value() or b"")  # type: ignore[arg-type]
        body: dict[str, str] = {}
        digest = b""
        if topic.startswith(OF_PICTURES):
            digest = hashlib.blake2b(value, digest_size=8).digest()
            self.count += 1
        else:
            body = json.loads(value or b"{}")
        self.records[topic][at] = ObservedRecord(headers, *at, message.timestamp()[1], body, digest)
        if topic.startswith("ephemeral."):
            self.results.add(headers["ce_id"])

    def _skip_deleted(self, message: Message) -> None:
        """Count the deleted records, and continue at the first offset that is left."""
        at = str(message.topic()), int(message.partition() or 0)
        first = 0
        with contextlib.suppress(KafkaException):  # no leader: the error comes again
            first, _ = self._consumer.get_watermark_offsets(TopicPartition(*at), timeout=20)
        if first > self._next[at]:
            self.missed[at[0]] += 1
        # Only this partition: a new assignment would drop what was fetched of the others.
        self._consumer.incremental_unassign([TopicPartition(*at)])
        self._consumer.incremental_assign([TopicPartition(*at, max(first, self._next[at]))])


def milliseconds(written: str) -> int:
    """Convert an event's time to milliseconds since 1970."""
    return round(datetime.fromisoformat(written).timestamp() * 1000)
