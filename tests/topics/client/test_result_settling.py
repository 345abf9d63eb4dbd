"""Acknowledge, return, reject, pause and seek, on a real broker."""

import pytest

from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.client import ack_tracker
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.delivery_queue import MAX_REASONS, OTHER_REASON
from erasestream.topics.client.result_subscription import ResultSubscription
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.results import (
    OFTEN,
    TIMEOUT_S,
    ResultWriter,
    committed,
    cutout,
    poll_until,
    take,
    upload_id,
)


def test_what_is_acknowledged_beyond_an_open_result_is_not_redelivered(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """One of a thousand is redelivered after a restart, and not the thousand."""
    router.write_many(cutout(n) for n in range(1000))
    with ResultSubscription(kafka.cluster, lane, group="test") as first:
        for delivery in take(first, 1000):
            if delivery.event.id != upload_id(3):
                delivery.ack()
    assert committed(kafka, lane) == 3
    for _ in range(2):  # a restart that acknowledges nothing forgets nothing
        with ResultSubscription(kafka.cluster, lane, group="test") as again:
            assert [d.event.id for d in take(again, 1)] == [upload_id(3)]
    router.write(cutout(1000))
    with ResultSubscription(kafka.cluster, lane, group="test") as last:
        assert [d.event.id for d in take(last, 2)] == [upload_id(3), upload_id(1000)]


def test_a_returned_result_is_delivered_again(
    results: ResultSubscription, router: ResultWriter
) -> None:
    """It alone, also after results that came later, and until it is acknowledged."""
    router.transact(cutout(1), cutout(2))
    first, second = take(results, 2)
    second.ack()
    for _ in range(3):
        first.nack()
        (first,) = take(results, 1)
        assert first.event == cutout(1)
    first.nack()
    router.transact(cutout(3))
    assert {d.event.id for d in take(results, 2)} == {upload_id(1), upload_id(3)}
    assert results.poll(1.0) is None


def test_a_returned_result_waits_for_its_delay(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """While others are delivered."""
    now = [0.0]
    router.write(cutout(1))
    with ResultSubscription(kafka.cluster, lane, group="test", clock=lambda: now[0]) as results:
        first = next(iter(results))
        first.nack(delay_s=60.0)
        now[0] = 59.0
        router.write(cutout(2))
        assert next(iter(results)).event == cutout(2)
        now[0] = 61.0
        assert next(iter(results)).event == cutout(1)


def test_a_rejected_result_is_counted_and_never_delivered_again(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """Once; an empty reason is refused, and the number of reasons is bounded."""
    router.write(cutout(1), cutout(2))
    first, second = take(results, 2)
    for reason in "", 7:
        with pytest.raises(Refused):
            first.reject(reason)  # type: ignore[arg-type]
    with pytest.raises(Refused):
        first.nack(float("nan"))
    first.reject("no such listing")
    first.reject("no such listing")
    first.ack()
    second.ack()
    second.reject("late")
    assert results.rejected == {"no such listing": 1}
    poll_until(results, lambda: committed(kafka, lane) == 2)
    router.write_many(cutout(n) for n in range(3, 3 + MAX_REASONS + 10))
    for number, delivery in enumerate(take(results, MAX_REASONS + 10)):
        delivery.reject(f"reason {number}")
    assert len(results.rejected) == MAX_REASONS + 1
    assert results.rejected[OTHER_REASON] == 11


def test_nothing_is_delivered_while_paused(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """And everything afterwards, in order; the partitions stay."""
    router.write(cutout(1), cutout(2))
    take(results, 1)[0].ack()
    results.pause()
    router.write(cutout(3))
    assert results.poll(1.0) is None
    results.resume()
    assert [d.event.id for d in take(results, 2)] == [upload_id(2), upload_id(3)]


def test_a_seek_goes_back_and_forth(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """Back to acknowledged results, and past others, which need no acknowledgement any more."""
    router.write(*(cutout(n) for n in range(10)))
    for delivery in take(results, 5):
        delivery.ack()
    results.seek(0, 2)
    assert [d.event.id for d in take(results, 2)] == [upload_id(2), upload_id(3)]
    results.seek(0, 8)
    assert [d.event.id for d in take(results, 1)] == [upload_id(8)]
    assert [d.event.id for d in take(results, 1)] == [upload_id(9)]
    poll_until(results, lambda: committed(kafka, lane) == 8)


@pytest.mark.parametrize(("partition", "offset"), [(7, 0), (0, -1), (0, 1 << 63)])
def test_a_seek_that_means_nothing_is_refused(
    results: ResultSubscription, router: ResultWriter, partition: int, offset: int
) -> None:
    router.write(cutout(1))
    take(results, 1)
    with pytest.raises(Refused) as caught:
        results.seek(partition, offset)
    assert caught.value.code is Code.MISCONFIGURED


async def test_the_asyncio_twin_does_the_same(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(cutout(1), cutout(2), cutout(3))
    async with AsyncResultSubscription(kafka.cluster, lane, group="test", limits=OFTEN) as results:
        first = await results.poll(TIMEOUT_S)
        assert first is not None
        first.nack()
        got = [await results.poll(TIMEOUT_S) for _ in range(3)]
        assert {d.event.id for d in got if d is not None} == {upload_id(n) for n in (1, 2, 3)}
        results.pause()
        results.seek(0, 0)
        assert await results.poll(0.5) is None
        results.resume()
        again = await results.poll(TIMEOUT_S)
        assert again is not None
        assert again.event == cutout(1)
        again.reject("seen")
        assert results.rejected == {"seen": 1}
    assert results.rejected == {"seen": 1}


def test_metadata_that_a_broker_refuses_is_left_out(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker may allow less than 4096 bytes: offsets are committed without it."""
    monkeypatch.setattr(ack_tracker, "MAX_BYTES", 100_000)
    router.write_many(cutout(n) for n in range(5000))
    with ResultSubscription(kafka.cluster, lane, group="test", limits=OFTEN) as results:
        deliveries = take(results, 5000)
        for delivery in deliveries[1::2]:
            delivery.ack()
        assert results.poll(0.5) is None
        deliveries[0].ack()
        poll_until(results, lambda: committed(kafka, lane) == 2)
