"""Measure sending uploads, from the first call to the last acknowledgement."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from functools import partial

from confluent_kafka import KafkaError, Message, Producer

from erasestream.pipeline.settings import load
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import MAX_UPLOAD_RECORD_BYTES, uploads_of
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.upload_builder import UploadFactory
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.measurement import Measurement, sample_images

ACCOUNT = "acct-4711"


def ours(
    cluster: Cluster, lane: Lane, images: list[bytes], count: int, *, sealed: bool = False
) -> Measurement:
    """Send with `UploadProducer`, as its documentation shows."""
    with UploadProducer(cluster, lane, sealed=sealed) as producer:
        producer.send(images[0], account=ACCOUNT).result()
        with Measurement() as measured:
            sent = [
                producer.send(images[n % len(images)], account=ACCOUNT, reference=str(n))
                for n in range(count)
            ]
            for future in sent:
                future.result()
    return measured


def asynchronous(cluster: Cluster, lane: Lane, images: list[bytes], count: int) -> Measurement:
    """Send with `AsyncUploadProducer`, as its documentation shows."""

    async def send() -> Measurement:
        async with AsyncUploadProducer(cluster, lane, sealed=False) as producer:
            await producer.send(images[0], account=ACCOUNT)
            with Measurement() as measured:
                async with asyncio.TaskGroup() as tasks:
                    for n in range(count):
                        image, reference = images[n % len(images)], str(n)
                        tasks.create_task(
                            producer.send(image, account=ACCOUNT, reference=reference)
                        )
        return measured

    return asyncio.run(send())


def bare(cluster: Cluster, lane: Lane, images: list[bytes], count: int) -> Measurement:
    """Send with bare librdkafka: the same headers for every record, requests of default size."""
    acknowledged = 0

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        nonlocal acknowledged
        assert error is None, error
        acknowledged += 1

    connection = Connection(cluster=cluster, role=lane_role(lane, LaneRole.PRODUCER))
    limits = SendingLimits()
    producer = Producer(
        connection.settings(
            ClientErrorState(),
            enable_idempotence=True,
            acks="all",
            message_max_bytes=MAX_UPLOAD_RECORD_BYTES,
            linger_ms=1,
            compression_type="none",
            queue_buffering_max_kbytes=limits.max_queued_bytes // 1024,
            queue_buffering_max_messages=0,
        )
    )
    topic, headers = uploads_of(lane), _headers(lane, images[0])
    producer.produce(topic, images[0], headers=headers, on_delivery=on_delivery)
    producer.flush()
    with Measurement() as measured:
        for n in range(count):
            image = images[n % len(images)]
            while True:
                try:
                    producer.produce(topic, image, headers=headers, on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        producer.flush()
    assert acknowledged == count + 1
    return measured


def _headers(lane: Lane, image: bytes) -> list[tuple[str, bytes]]:
    """Return the headers of one upload of ours."""
    factory = UploadFactory(lane=lane, now=lambda: datetime.now(UTC), random=os.urandom)
    upload = factory.build(image, account=ACCOUNT, reference="1")
    return to_wire(upload, source=f"/lanes/{lane}/uploads").headers


def main(side: str, lane: str, size: str, count: str) -> None:
    """Measure one of the sides and print the report."""
    sides = {
        "ours": ours,
        "sealed": partial(ours, sealed=True),
        "twin": asynchronous,
        "bare": bare,
    }
    sides[side](load().cluster, Lane(lane), sample_images(int(size)), int(count)).report()


if __name__ == "__main__":
    main(*sys.argv[1:5])
