"""A Kafka client without our libraries, and the records that it sends, valid or not."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from os import urandom
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as BatchBuilder
from confluent_kafka import KafkaError, Message, Producer

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.images import Upload
from erasestream.schemas.ids import AccountId, new_upload_id
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState

Headers = Mapping[str, bytes | None]


class RecordPosition(NamedTuple):
    """Partition and offset of a record."""

    partition: int
    offset: int


class RawRecord(NamedTuple):
    """A record with any value and any headers."""

    value: bytes | None
    headers: Headers

    def with_headers(self, **changed: bytes | None) -> "RawRecord":
        """Return the record with other headers (`ce_x`); None removes one."""
        headers = {**self.headers, **changed}
        return RawRecord(self.value, {n: v for n, v in headers.items() if v is not None})

    def with_value(self, value: bytes | None) -> "RawRecord":
        """Return the record with another value."""
        return RawRecord(value, self.headers)


def upload_record(image: bytes, account: str) -> RawRecord:
    """Build a valid upload."""
    now = datetime.now(UTC)
    event = Upload(
        id=new_upload_id(int(now.timestamp() * 1000), urandom(10)),
        time=now,
        account=AccountId(account),
        content_type=sniff_content_type(image) or "image/png",
        data=image,
    )
    return RawRecord(image, dict(to_wire(event, source="/a/stranger").headers))


class UndecodableName(str):
    """A header name whose bytes are not valid UTF-8."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        """Show it with replacement characters, send it as `raw`."""
        name = super().__new__(cls, raw.decode(errors="replace"))
        name.raw = raw
        return name

    def encode(self, *_: str) -> bytes:
        """Return the raw bytes."""
        return self.raw


class RawClient:
    """A plain producer with the certificate of a role."""

    def __init__(self, cluster: Cluster, role: Role, *, compression: str = "none") -> None:
        self.connection = Connection(cluster=cluster, role=role)
        self._producer = Producer(
            self.connection.settings(
                ClientErrorState(),
                message_max_bytes=100_000_000,
                linger_ms=0,
                compression_type=compression,
            )
        )

    def send(
        self, topic: str, record: RawRecord, *, partition: int, key: bytes | None = None
    ) -> RecordPosition | KafkaError:
        """Return the position of the appended record, or the broker's error."""
        outcomes: list[RecordPosition | KafkaError] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            outcomes.append(error or RecordPosition(partition, int(message.offset() or 0)))

        self._producer.produce(
            topic,
            record.value,
            key,
            partition,
            on_delivery=on_delivery,
            headers=list(record.headers.items()),
        )
        self._producer.flush(30)
        (outcome,) = outcomes
        return outcome

    def send_with_undecodable_name(
        self, topic: str, record: RawRecord, *, partition: int, name: bytes
    ) -> RecordPosition:
        """Send the record with an additional header of this raw name."""
        return asyncio.run(self._send_with_undecodable_name(topic, record, partition, name))

    async def _send_with_undecodable_name(
        self, topic: str, record: RawRecord, partition: int, name: bytes
    ) -> RecordPosition:
        """Use aiokafka: librdkafka's Python binding takes header names as text only."""
        async with AIOKafkaProducer(
            bootstrap_servers=list(self.connection.cluster.bootstrap_servers),
            security_protocol="SSL",
            ssl_context=self.connection.identity.ssl_context(),
        ) as producer:
            batch = producer.create_batch()
            batch._builder = BatchBuilder(2, 0, 0, -1, -1, -1, 1 << 26)
            headers = [*record.headers.items(), (UndecodableName(name), b"")]
            batch.append(timestamp=None, key=None, value=record.value, headers=headers)
            sent = await producer.send_batch(batch, topic, partition=partition)
            return RecordPosition(partition, (await sent).offset)
