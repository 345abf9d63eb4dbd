"""A client that is not ours, and the records that it sends."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from os import urandom
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as PlainBuilder
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
    """Where a record lies."""

    partition: int
    offset: int


class RawRecord(NamedTuple):
    """What is sent: anything at all."""

    value: bytes | None
    headers: Headers

    def with_headers(self, **changed: bytes | None) -> "RawRecord":
        """The same with other headers (`ce_x`); None leaves one out."""
        headers = {**self.headers, **changed}
        return RawRecord(self.value, {n: v for n, v in headers.items() if v is not None})

    def with_value(self, value: bytes | None) -> "RawRecord":
        """The same headers around something else."""
        return RawRecord(value, self.headers)


def upload_record(image: bytes, account: str) -> RawRecord:
    """An upload as it should be."""
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
    """The name of a header that no text can be."""

    __slots__ = ("bare",)

    def __new__(cls, bare: bytes) -> Self:
        """Shown with replacements, sent as it is."""
        name = super().__new__(cls, bare.decode(errors="replace"))
        name.bare = bare
        return name

    def encode(self, *_: str) -> bytes:
        """The bytes themselves."""
        return self.bare


class RawClient:
    """A plain Kafka client with somebody's certificate."""

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
        """Where the broker put the record, or why it did not."""
        answers: list[RecordPosition | KafkaError] = []

        def answered(error: KafkaError | None, message: Message) -> None:
            answers.append(error or RecordPosition(partition, int(message.offset() or 0)))

        self._producer.produce(
            topic,
            record.value,
            key,
            partition,
            on_delivery=answered,
            headers=list(record.headers.items()),
        )
        self._producer.flush(30)
        (answer,) = answers
        return answer

    def send_with_bare_names(
        self, topic: str, record: RawRecord, *, partition: int, bare: bytes
    ) -> RecordPosition:
        """The same, with one header more whose name is these bytes."""
        return asyncio.run(self._send_with_bare_names(topic, record, partition, bare))

    async def _send_with_bare_names(
        self, topic: str, record: RawRecord, partition: int, bare: bytes
    ) -> RecordPosition:
        """With another library: librdkafka's binding takes names as text."""
        async with AIOKafkaProducer(
            bootstrap_servers=list(self.connection.cluster.bootstrap_servers),
            security_protocol="SSL",
            ssl_context=self.connection.identity.ssl_context(),
        ) as producer:
            batch = producer.create_batch()
            batch._builder = PlainBuilder(2, 0, 0, -1, -1, -1, 1 << 26)
            headers = [*record.headers.items(), (UndecodableName(bare), b"")]
            batch.append(timestamp=None, key=None, value=record.value, headers=headers)
            sent = await producer.send_batch(batch, topic, partition=partition)
            return RecordPosition(partition, (await sent).offset)
