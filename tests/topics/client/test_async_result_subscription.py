"""Subscriptions from asyncio."""

import asyncio
import threading
from typing import Any

import pytest

from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.client import result_subscription
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_reader import ReceivingLimits, ResultReader
from tests.kafka_fixture import KafkaFixture
from tests.leaks import no_leak
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
    kafka: KafkaFixture, lane: Lane, router: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No member is left in the group: another one gets everything."""
    loop, connecting, may_connect = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    class SlowReader(ResultReader):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            loop.call_soon_threadsafe(connecting.set)
            assert may_connect.wait(TIMEOUT_S)
            super().__init__(*args, **kwargs)

    router.write(*(cutout(n) for n in range(10)))
    with no_leak(), monkeypatch.context() as patched:
        patched.setattr(result_subscription, "ResultReader", SlowReader)
        cancelled = AsyncResultSubscription(kafka.cluster, lane, group="test")
        opening = asyncio.create_task(cancelled.open())
        await connecting.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await cancelled.close()
        may_connect.set()
    async with AsyncResultSubscription(kafka.cluster, lane, group="test") as second:
        for number in range(10):
            delivery = await second.poll(TIMEOUT_S)
            assert delivery is not None
            assert delivery.event == cutout(number)


async def test_a_subscription_closed_while_it_connects_is_closed(
    kafka: KafkaFixture, lane: Lane
) -> None:
    with no_leak():
        subscription = AsyncResultSubscription(kafka.cluster, lane, group="test")
        opening = asyncio.create_task(subscription.open())
        await asyncio.sleep(0)
        await subscription.close()
        with pytest.raises(Refused) as caught:
            await opening
        assert caught.value.code is Code.CLOSED


async def test_a_closed_subscription_cannot_be_opened(kafka: KafkaFixture, lane: Lane) -> None:
    subscription = AsyncResultSubscription(kafka.cluster, lane, group="test")
    await subscription.close()
    await subscription.close()
    with pytest.raises(Refused, match="after close") as caught:
        await subscription.open()
    assert caught.value.code is Code.CLOSED


async def test_closing_with_a_silent_broker_tells_what_was_not_committed(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(cutout(1))
    limits = ReceivingLimits(close_s=1.0, commit_every_s=3600)
    subscription = AsyncResultSubscription(kafka.cluster, lane, group="test", limits=limits)
    await subscription.open()
    delivery = await subscription.poll(TIMEOUT_S)
    assert delivery is not None
    with kafka.silence():
        delivery.ack()
        with pytest.raises(Unavailable, match="1 acknowledgements"):
            await subscription.close()
        await subscription.close()
