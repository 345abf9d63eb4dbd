"""Sealed results that a subscription opens, and what it does while a key is unavailable."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.schemas.ids import AccountId
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.delivery_queue import DeliveryQueue
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.fetch_thread import FetchSession
from erasestream.topics.client.fetched_results import MAX_RECORDS, FetchedRecord
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.leaks import no_leak
from tests.pipeline.stages.keys.key_harness import TIMES
from tests.topics.client.lane_keys import LaneKeys
from tests.topics.client.results import (
    OFTEN,
    TIMEOUT_S,
    ResultWriter,
    committed,
    cutout,
    failure,
    poll_until,
    take,
    upload_id,
)

BRIEF_S = 0.3


def sealed(keys: LaneKeys, number: int, data: bytes = b"cut", *, ahead: int = 0) -> Cutout:
    """Return a cut-out as the inference stage seals it, for this epoch or a later one."""
    recipient = keys.recipient(f"results.{keys.lane}", keys.epoch + ahead)
    upload = upload_digest(keys.lane, cutout(number).account, upload_id(number))
    context = Context(upload, Part.CUTOUT, "image/webp")
    return enveloped(number, seal(data, context=context, recipients=[recipient]))


def enveloped(number: int, value: bytes) -> Cutout:
    return cutout(number).model_copy(update={"content_type": SEALED_CONTENT_TYPE, "data": value})


def opened(number: int, data: bytes = b"cut") -> Cutout:
    return cutout(number).model_copy(update={"content_type": "image/webp", "data": data})


def subscribed(keys: LaneKeys) -> ResultSubscription:
    return ResultSubscription(keys.cluster, keys.lane, group="test", limits=OFTEN, now=keys.clock)


def test_results_are_opened_in_their_order(keys: LaneKeys, router: ResultWriter) -> None:
    """Sealed ones, unsealed ones and failures; a returned one is opened again."""
    large = bytes(3_000_000)
    written = sealed(keys, 1, b"one"), cutout(2), failure(3), sealed(keys, 4, large)
    with subscribed(keys) as results:
        router.write(*written)
        deliveries = take(results, 4)
        expected = [opened(1, b"one"), cutout(2), failure(3), opened(4, large)]
        assert [each.event for each in deliveries] == expected
        deliveries[0].nack()
        (again,) = take(results, 1)
        assert again.event == expected[0]


def test_a_result_whose_key_is_dead_is_expired(
    kafka: KafkaFixture, keys: LaneKeys, router: ResultWriter
) -> None:
    """It is typed, counted and acknowledged as any other."""
    router.write(sealed(keys, 1))
    keys.clock.advance(hours=24)
    router.write(sealed(keys, 2))
    with subscribed(keys) as results:
        dead, alive = take(results, 2)
        assert dead.event == Expired.of(cutout(1))
        assert alive.event == opened(2)
        assert results.expired == 1
        dead.ack()
        poll_until(results, lambda: committed(kafka, keys.lane) == 1)


def test_what_does_not_open_is_a_failure(keys: LaneKeys, router: ResultWriter) -> None:
    """Changed, of another upload or account, sealed for others, or no envelope at all."""
    value = sealed(keys, 1).data
    foreign = keys.recipient("sink", keys.epoch)
    upload = upload_digest(keys.lane, cutout(4).account, upload_id(4))
    context = Context(upload, Part.CUTOUT, "image/png")
    router.write(
        enveloped(1, value[:-1] + bytes([value[-1] ^ 1])),
        enveloped(2, value),
        enveloped(3, b"none"),
        enveloped(1, value).model_copy(update={"account": AccountId("another")}),
        enveloped(4, seal(b"cut", context=context, recipients=[foreign])),
        sealed(keys, 5),
    )
    with subscribed(keys) as results:
        *broken, whole = [delivery.event for delivery in take(results, 6)]
    assert [(each.id, each.code) for each in broken if isinstance(each, Failure)] == [
        (upload_id(number), Code.SEAL_BROKEN) for number in (1, 2, 3, 1, 4)
    ]
    assert whole == opened(5)


def test_a_key_of_the_next_epoch_is_awaited(keys: LaneKeys, router: ResultWriter) -> None:
    """Clocks differ; but an epoch that no clock explains does not hold back what follows."""
    now, early = datetime.now(UTC), timedelta(minutes=10)
    ends = TIMES.begins(TIMES.number(now) + 1)
    # Within the time that clocks explain, and well before the next epoch.
    keys.clock.at = now if ends - now > early else now - early
    router.write(sealed(keys, 0))
    with subscribed(keys) as results:
        assert [each.event for each in take(results, 1)] == [opened(0)]
        router.write(sealed(keys, 1, ahead=1), sealed(keys, 2))
        assert results.poll(BRIEF_S) is None
        keys.clock.advance(hours=1)
        assert [each.event for each in take(results, 2)] == [opened(1), opened(2)]
        keys.clock.advance(hours=2)  # hours after the broker's append
        router.write(sealed(keys, 3, ahead=1), sealed(keys, 4))
        first, second = take(results, 2)
        assert isinstance(first.event, Failure)
        assert (first.event.code, second.event) == (Code.SEAL_BROKEN, opened(4))


def test_without_the_key_service_results_wait_and_partitions_stay(
    keys: LaneKeys, router: ResultWriter
) -> None:
    """Fetching stops at a bound, rebalances go on; then all come, in their order."""
    count = MAX_RECORDS + 50
    one = sealed(keys, 0)
    with subscribed(keys) as results:
        keys.stop()
        router.write(one)
        router.write_many(cutout(number) for number in range(1, count))
        assert results.poll(BRIEF_S) is None
        queue = results.reader.queue
        poll_until(results, lambda: not queue.has_room())
        assert results.poll(2 * BRIEF_S) is None
        router.write(one, partition=1)
        with subscribed(keys) as other:
            tracker = other.reader.queue.tracker

            def has_joined() -> bool:
                assert results.poll(0) is None
                assert other.poll(BRIEF_S) is None
                return len(tracker.assigned) == 1

            eventually("the other member has a partition", has_joined)
            keys.start()
            long = other if {at.number for at in tracker.assigned} == {0} else results
            events = [delivery.event for delivery in take(long, count)]
            assert events == [opened(0), *(cutout(number) for number in range(1, count))]


def test_waiting_for_a_key_ends(keys: LaneKeys, router: ResultWriter) -> None:
    """At a seek to what is behind, and when the subscription is stopped and closed."""
    router.write(sealed(keys, 1))
    router.write(cutout(2))
    keys.stop()
    with no_leak(), subscribed(keys) as results:
        poll_until(results, lambda: results.reader.queue.is_opening)
        results.seek(0, 1)
        assert take(results, 1)[0].event == cutout(2)
        results.seek(0, 0)
        poll_until(results, lambda: results.reader.queue.is_opening)
        results.stop()
        assert list(results) == []


async def test_a_task_that_awaits_a_key_does_not_block_the_loop(
    keys: LaneKeys, router: ResultWriter
) -> None:
    router.write(sealed(keys, 1))
    keys.stop()
    async with AsyncResultSubscription(
        keys.cluster, keys.lane, group="test", limits=OFTEN, now=keys.clock
    ) as results:
        while not results._connected().queue.is_opening:
            assert await results.poll(0.1) is None
        waiting = asyncio.create_task(results.poll(TIMEOUT_S))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        keys.start()
        delivery = await waiting
    assert delivery is not None
    assert delivery.event == opened(1)


def test_without_endpoints_a_sealed_result_is_refused(
    kafka: KafkaFixture, keys: LaneKeys, router: ResultWriter
) -> None:
    """It is not delivered as it is, and not skipped."""
    router.write(sealed(keys, 1), cutout(2))
    with ResultSubscription(kafka.cluster, keys.lane, group="test", limits=OFTEN) as results:
        for _ in range(2):
            with pytest.raises(Refused, match="key_endpoints"):
                take(results, 1)
    with subscribed(keys) as results:
        assert [each.event for each in take(results, 2)] == [opened(1), cutout(2)]


def test_a_waiting_caller_does_not_fill_the_queue_beyond_its_bound() -> None:
    """While results are opened, and once the next one is: nothing more is fetched."""
    queue = DeliveryQueue(remember=10, max_bytes=1000, clock=time.monotonic)
    session = FetchSession(queue, time.monotonic)
    headers, value = to_wire(enveloped(1, bytes(600)), source="/router")
    session.waiting = 1
    assert session.has_demand
    at = Partition("ephemeral.shop", 0)
    assert session.put(FetchedRecord(Record(at, 0, 0, None, headers, value)))
    assert not session.put(FetchedRecord(Record(at, 1, 0, None, headers, value)))
    assert not session.has_demand
    item = session.await_sealed(0)
    assert item is not None
    session.opened(item, cutout(1))
    assert not session.has_demand
    assert queue.take() is not None
    assert session.has_demand
