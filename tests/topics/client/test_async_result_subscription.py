"""Subscriptions from asyncio."""

import asyncio
import threading
from typing import Any

import pytest

from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.client import result_subscription
from erasestream.topics.client.result_consumer import ResultConsumer
from erasestream.topics.client.result_subscription import AsyncResultSubscription, Delivery
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.results import OFTEN, TIMEOUT_S, ResultWriter, committed, cutout, upload_id


async def test_async_iteration_delivers_commits_and_stops(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(*(cutout(n) for n in range(20)))
    got = []
    async with AsyncResultSubscription(
        kafka.cluster, lane, group="test", limits=OFTEN
    ) as subscription:
        async for delivery in subscription:
            got.append(delivery.event.id)
            delivery.ack()
            if len(got) == 20:
                subscription.stop()
    assert got == [upload_id(n) for n in range(20)]
    assert committed(kafka, lane) == 20
    with pytest.raises(Refused):
        await subscription.poll(0.0)


async def test_a_cancelled_task_loses_no_result(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """The next task gets the result that came during the cancellation."""
    got = []
    async with AsyncResultSubscription(kafka.cluster, lane, group="test") as subscription:
        for number in range(20):
            waiting = asyncio.create_task(subscription.poll(TIMEOUT_S))
            await asyncio.sleep(0.001 * number)
            if number < 10:
                await asyncio.to_thread(router.write, cutout(number))
            waiting.cancel()
            with_result = await asyncio.gather(waiting, return_exceptions=True)
            got += [d for d in with_result if isinstance(d, Delivery)]
        while len(got) < 10:
            delivery = await subscription.poll(TIMEOUT_S)
            assert delivery is not None
            got.append(delivery)
    assert [d.event.id for d in got] == [upload_id(n) for n in range(10)]


async def test_two_tasks_never_get_the_same_result(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(*(cutout(n) for n in range(10)))
    async with AsyncResultSubscription(kafka.cluster, lane, group="test") as subscription:

        async def five() -> list[UploadId]:
            found: list[UploadId] = []
            while len(found) < 5:
                delivery = await subscription.poll(TIMEOUT_S)
                assert delivery is not None
                found.append(delivery.event.id)
            return found

        one, two = await asyncio.gather(five(), five())
    assert sorted(one + two) == [upload_id(n) for n in range(10)]


async def test_a_subscription_whose_opening_was_cancelled_is_closed(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, may_connect, closed = threading.Event(), threading.Event(), threading.Event()

    class SlowConsumer(ResultConsumer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            connecting.set()
            assert may_connect.wait(TIMEOUT_S)
            super().__init__(*args, **kwargs)

        def close(self) -> None:
            super().close()
            closed.set()

    monkeypatch.setattr(result_subscription, "ResultConsumer", SlowConsumer)
    subscription = AsyncResultSubscription(kafka.cluster, lane, group="test")
    opening = asyncio.create_task(subscription.open())
    assert await asyncio.to_thread(connecting.wait, TIMEOUT_S)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    may_connect.set()
    assert await asyncio.to_thread(closed.wait, TIMEOUT_S)
    await subscription.close()
