"""The producer for asyncio."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import MAX_UPLOAD_RECORD_BYTES
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.upload_producer import (
    SendingLimits,
)
from erasestream.topics.kafka.connection import Cluster
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.uploads import LARGE, NARROW, PNG


async def test_async_tasks_send_concurrently(kafka: KafkaFixture, lane: Lane) -> None:
    async with AsyncUploadProducer(kafka.cluster, lane, sealed=False) as producer:
        receipts = await asyncio.gather(*(producer.send(PNG, account="a") for _ in range(50)))
    assert len({(r.partition, r.offset) for r in receipts}) == 50
    with pytest.raises(Refused) as caught:
        await producer.send(PNG, account="a")
    assert caught.value.code is Code.CLOSED


async def test_an_async_task_waits_for_room_without_blocking_the_loop(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Then it is refused with queue_full; no accepted upload is lost."""
    limits = replace(NARROW, max_wait_s=1.5)  # several turns of the loop, on a busy machine too
    async with AsyncUploadProducer(kafka.cluster, lane, limits=limits, sealed=False) as producer:
        await producer.send(PNG, account="a")
        with kafka.silence():
            taken = [asyncio.create_task(producer.send(LARGE, account="a")) for _ in range(2)]
            await asyncio.sleep(0)
            waiting = asyncio.create_task(producer.send(LARGE, account="a"))
            ticks = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert ticks > 3
        with pytest.raises(Unavailable) as caught:
            await waiting
        assert caught.value.code is Code.QUEUE_FULL
        assert len(await asyncio.gather(*taken)) == 2


async def test_a_cancelled_task_releases_its_room(kafka: KafkaFixture, lane: Lane) -> None:
    limits = SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES)
    async with AsyncUploadProducer(kafka.cluster, lane, limits=limits, sealed=False) as producer:
        await producer.send(PNG, account="a")
        with kafka.silence():
            taken = [asyncio.create_task(producer.send(LARGE, account="a")) for _ in range(2)]
            await asyncio.sleep(0)
            waiting = asyncio.create_task(producer.send(LARGE, account="a"))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.gather(*taken)
        full = PNG + bytes(MAX_UPLOAD_BYTES - len(PNG))
        assert (await producer.send(full, account="a")).upload_id


async def test_an_unopened_async_producer_is_refused() -> None:
    cluster = Cluster(bootstrap_servers=("127.0.0.1:9",), identities=Path("none"))
    with pytest.raises(Refused, match="async with"):
        await AsyncUploadProducer(cluster, Lane("shop"), sealed=False).send(PNG, account="a")
