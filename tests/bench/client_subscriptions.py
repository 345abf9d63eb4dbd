"""Measure receiving results, from the first one received to the last one committed."""

import asyncio
import sys
import time
from datetime import UTC, datetime

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import load
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient
from erasestream.topics.catalog.acl import group_prefix
from erasestream.topics.catalog.purposes import results_of
from erasestream.topics.catalog.roles import INFERENCE, ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES, ephemeral_of
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.result_reader import ReceivingLimits
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.keys.client import KeyClient
from tests.bench.measurement import Measurement, sample_images

BATCH_BYTES = 8_000_000
WAIT_S = 60.0


def fill(stack: Stack, lane: Lane, size: int, count: int, *, sealed: bool = False) -> None:
    """Write `count` cut-outs of this size, and one for the warm-up, as the router does."""
    recipient = _recipient(stack, lane) if sealed else None
    connection = Connection(cluster=stack.cluster, role=ROUTER)
    settings = connection.settings(
        ClientErrorState(), enable_idempotence=True, acks="all", message_max_bytes=MAX_RECORD_BYTES
    )
    producer = Producer(settings)
    images = sample_images(size)
    partitions = stack.catalog()[ephemeral_of(lane)].partitions
    for n in range(count + 1):
        now = datetime.now(UTC)
        event = Cutout(
            id=new_upload_id(int(now.timestamp() * 1000), n.to_bytes(10, "big")),
            time=now,
            account=AccountId("acct-4711"),
            reference=str(n),
            position=Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=0, offset=n),
            uploaded_at=now,
            content_type="image/png",
            model="isnet",
            model_sha256="ab" * 32,
            model_version="1.4.5",
            steps_ms={"decode": 5.0, "infer": 901.25, "encode": 30.5},
            data=images[n % len(images)],
        )
        if recipient is not None:
            event = _sealed(event, lane, recipient)
        headers, value = to_wire(event, source="/inference")
        producer.produce(ephemeral_of(lane), value, None, n % partitions, headers=headers)
        while len(producer) * size > 2 * BATCH_BYTES:
            producer.poll(0.01)
    assert producer.flush(WAIT_S) == 0


def _recipient(stack: Stack, lane: Lane) -> EpochRecipient:
    client = KeyClient.of(stack.cluster, INFERENCE)
    key = client.sealing_key(results_of(lane), timeout_s=WAIT_S)
    return EpochRecipient.of(Epoch(results_of(lane), key.epoch), key.public)


def _sealed(event: Cutout, lane: Lane, recipient: EpochRecipient) -> Cutout:
    upload = upload_digest(lane, event.account, event.id)
    context = Context(upload, Part.CUTOUT, event.content_type)
    value = seal(event.data, context=context, recipients=[recipient])
    return event.model_copy(update={"content_type": SEALED_CONTENT_TYPE, "data": value})


def ours(cluster: Cluster, lane: Lane, size: int, count: int, group: str) -> Measurement:
    """Receive with `ResultSubscription`, as its documentation shows."""
    del size
    results = ResultSubscription(cluster, lane, group=group)
    deliveries = iter(results)
    next(deliveries).ack()
    with Measurement() as measured:
        for _, delivery in zip(range(count), deliveries, strict=False):
            assert delivery.event.reference
            delivery.ack()
        results.close()
    return measured


def asynchronous(cluster: Cluster, lane: Lane, size: int, count: int, group: str) -> Measurement:
    """Receive with `AsyncResultSubscription`, as its documentation shows."""
    del size

    async def receive() -> Measurement:
        results = await AsyncResultSubscription(cluster, lane, group=group).open()
        deliveries = aiter(results)
        (await anext(deliveries)).ack()
        with Measurement() as measured:
            for _ in range(count):
                delivery = await anext(deliveries)
                assert delivery.event.reference
                delivery.ack()
            await results.close()
        return measured

    return asyncio.run(receive())


def bare(cluster: Cluster, lane: Lane, size: int, count: int, group: str) -> Measurement:
    """Consume batches with librdkafka, read value and headers, commit as often as ours does."""
    role = lane_role(lane, LaneRole.CONSUMER)
    limits = ReceivingLimits()
    consumer = Consumer(
        Connection(cluster=cluster, role=role).settings(
            ClientErrorState(),
            group_id=group_prefix(role) + group,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy="cooperative-sticky",
            fetch_max_bytes=16_000_000,
            fetch_message_max_bytes=4_000_000,
            receive_message_max_bytes=MAX_RECORD_BYTES + 16_000_000,
            queued_max_messages_kbytes=limits.max_queued_bytes // 1024,
            fetch_queue_backoff_ms=10,
        )
    )
    consumer.subscribe([ephemeral_of(lane)])
    batch = max(1, BATCH_BYTES // size)
    positions: dict[int, int] = {}
    received = len(_received(consumer.consume(1, WAIT_S), positions))
    with Measurement() as measured:
        commit_due = Deadline(limits.commit_every_s, time.monotonic)
        while received < count + 1:
            # consume() waits for as many as requested: request no more than there are.
            most = min(batch, count + 1 - received)
            received += len(_received(consumer.consume(most, 0.2), positions))
            if commit_due.has_passed:
                commit_due = Deadline(limits.commit_every_s, time.monotonic)
                consumer.commit(offsets=_offsets(lane, positions), asynchronous=True)
        consumer.commit(offsets=_offsets(lane, positions), asynchronous=False)
        consumer.close()
    return measured


def _received(messages: list[Message], positions: dict[int, int]) -> list[Message]:
    for message in messages:
        assert message.error() is None, message.error()
        assert message.value()
        assert message.headers()
        positions[message.partition()] = message.offset() + 1
    return messages


def _offsets(lane: Lane, positions: dict[int, int]) -> list[TopicPartition]:
    return [TopicPartition(ephemeral_of(lane), *each) for each in positions.items()]


def main(side: str, lane: str, size: str, count: str, group: str) -> None:
    """Measure one of the sides and print the report."""
    sides = {"ours": ours, "sealed": ours, "twin": asynchronous, "bare": bare}
    sides[side](load().cluster, Lane(lane), int(size), int(count), group).report()


if __name__ == "__main__":
    main(*sys.argv[1:6])
