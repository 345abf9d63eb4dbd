"""Reads along, as somebody of its own, with a bare client and a certificate of its own.

Every record of every topic is noted from the first on, since the purger takes away what is no
longer needed; of a picture only that it was there.  Nothing is parsed by our own events.
"""

import contextlib
import hashlib
import json
import threading
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

BATCH = 500
OF_PICTURES = ("uploads.", "cutouts.", "ephemeral.", "retained")


class ObservedRecord(NamedTuple):
    """A record: its CloudEvents attributes, its place, and when the broker appended it."""

    attributes: Mapping[str, str]
    partition: int
    offset: int
    appended_ms: int
    body: Mapping[str, str] = MappingProxyType({})
    """Of a record without a picture."""
    digest: bytes = b""
    """Of the bytes, of a record of a picture: whether it is the same one later."""


Topics = Mapping[str, Mapping[tuple[int, int], ObservedRecord]]
"""Of each topic the records by their partition and offset."""


def records_of_kind(topics: Topics, kind: str) -> Iterator[tuple[str, ObservedRecord]]:
    """Lane and record of all topics of a kind, in the order of their offsets."""
    for topic, records in topics.items():
        name, _, lane = topic.partition(".")
        if name == kind:
            yield from ((lane, records[place]) for place in sorted(records))


class Observer:
    """A thread that reads `topics` (name: partitions) until it is closed."""

    def __init__(self, settings: Mapping[str, Any], topics: Mapping[str, int]) -> None:
        self.seen: dict[str, dict[tuple[int, int], ObservedRecord]] = {
            topic: {} for topic in topics
        }
        self.missed: Counter[str] = Counter()
        """How often records of a topic were gone before they were read here."""
        self.count = 0
        """Records of pictures, and of what became of them, that were read."""
        self.results: set[str] = set()
        """The ids of the uploads that have a result."""
        self._consumer = Consumer(
            dict(settings)
            | {
                "group.id": "checker",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                # It is in no hurry, and would else ask for every record of eighty partitions alone.
                "fetch.min.bytes": 100_000,
                "fetch.wait.max.ms": 100,
                "topic.metadata.refresh.interval.ms": 5000,
                "queued.max.messages.kbytes": 32_768,
            }
        )
        self._next = {(name, n): 0 for name, count in topics.items() for n in range(count)}
        """Of each partition the offset behind what was read."""
        self._consumer.assign([TopicPartition(*at, 0) for at in self._next])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._thread.join(30)
        self._consumer.close()

    def _read(self) -> None:
        while not self._closing.is_set():
            for message in self._consumer.consume(BATCH, 0.2):
                error = message.error()
                if error is None:
                    self._note(message)
                elif error.code() in (
                    KafkaError._AUTO_OFFSET_RESET,
                    KafkaError.OFFSET_OUT_OF_RANGE,
                ):
                    self._go_on(message)

    def _note(self, message: Message) -> None:
        topic = str(message.topic())
        headers = {str(n): bytes(v or b"").decode() for n, v in message.headers() or []}  # type: ignore[arg-type]
        number, offset = place = (int(message.partition() or 0), int(message.offset() or 0))
        self._next[topic, number] = offset + 1
        value = bytes(message.value() or b"")  # type: ignore[arg-type]
        body: dict[str, str] = {}
        digest = b""
        if topic.startswith(OF_PICTURES):
            digest = hashlib.blake2b(value, digest_size=8).digest()
            self.count += 1
        else:
            body = json.loads(value or b"{}")
        self.seen[topic][place] = ObservedRecord(
            headers, *place, message.timestamp()[1], body, digest
        )
        if topic.startswith("ephemeral."):
            self.results.add(headers["ce_id"])

    def _go_on(self, message: Message) -> None:
        """What was to be read next is gone: said, and read on where the rest begins."""
        at = str(message.topic()), int(message.partition() or 0)
        first = 0
        with contextlib.suppress(KafkaException):  # its leader is away: it is asked for again
            first, _ = self._consumer.get_watermark_offsets(TopicPartition(*at), timeout=20)
        if first > self._next[at]:
            self.missed[at[0]] += 1
        # Only this one: what was fetched of the others is lost with a new assignment.
        self._consumer.incremental_unassign([TopicPartition(*at)])
        self._consumer.incremental_assign([TopicPartition(*at, max(first, self._next[at]))])


def count_objects(
    endpoint: str, bucket: str, token: str, context: Any
) -> Counter[tuple[str, str, str]]:
    """Of every object in the bucket: upload, part and grant, by its name."""
    found: Counter[tuple[str, str, str]] = Counter()
    page = ""
    while True:
        query = urllib.parse.urlencode({"pageToken": page} if page else {})
        request = urllib.request.Request(  # noqa: S310 (the address is https)
            f"{endpoint}/storage/v1/b/{bucket}/o?{query}",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
            listed = json.load(answer)
        for item in listed.get("items", []):
            _owner, grant, rest = item["name"].split("/")
            upload, part, _content = rest.split(".")
            found[upload, part, grant] += 1
        page = listed.get("nextPageToken", "")
        if not page:
            return found


def milliseconds(written: str) -> int:
    """A time of an event, in milliseconds since 1970."""
    return round(datetime.fromisoformat(written).timestamp() * 1000)
