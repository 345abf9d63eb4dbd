"""Subscriptions to results, on a real broker with TLS and access rights."""

import math
import threading
from datetime import UTC, datetime

import pytest

from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, Cutout
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture
from tests.topics.client.results import (
    ResultWriter,
    committed,
    cutout,
    failure,
    poll_until,
    take,
    upload_id,
)


def test_results_are_delivered_as_written(
    results: ResultSubscription, router: ResultWriter
) -> None:
    """From the oldest on, typed and with their reference."""
    router.write(cutout(1), failure(2))
    first, second = take(results, 2)
    assert first.event == cutout(1)
    assert second.event == failure(2)
    assert (first.partition, first.offset) == (0, 0)
    assert first.appended_at <= datetime.now(UTC)
    assert "cut" not in repr(first).replace("cutout", "")


def test_the_largest_cutout_is_delivered(results: ResultSubscription, router: ResultWriter) -> None:
    """64 MB pass every limit of the client, and small results after it."""
    router.write(cutout(1, data=bytes(MAX_CUTOUT_BYTES)), cutout(2))
    large, small = take(results, 2)
    assert isinstance(large.event, Cutout)
    assert len(large.event.data) == MAX_CUTOUT_BYTES
    assert small.event.id == upload_id(2)


def test_acknowledged_results_are_committed(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """Up to the first unacknowledged one, while the reader polls."""
    router.write(*(cutout(n) for n in range(1, 5)))
    deliveries = take(results, 4)
    deliveries[1].ack()
    deliveries[0].ack()
    deliveries[0].ack()
    deliveries[3].ack()
    poll_until(results, lambda: committed(kafka, lane) == 2)
    deliveries[2].ack()
    poll_until(results, lambda: committed(kafka, lane) == 4)


def test_unacknowledged_results_are_redelivered(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """After a restart, without acknowledged ones."""
    router.write(*(cutout(n) for n in range(1, 5)))
    with ResultSubscription(kafka.cluster, lane, group="test") as first:
        for delivery in take(first, 4):
            if delivery.event.id != upload_id(3):
                delivery.ack()
    with ResultSubscription(kafka.cluster, lane, group="test") as second:
        router.write(cutout(5))
        assert [d.event.id for d in take(second, 2)] == [upload_id(3), upload_id(5)]


def test_each_group_gets_every_result(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(cutout(1))
    for group in ("one", "two"):
        with ResultSubscription(kafka.cluster, lane, group=group) as subscription:
            (delivery,) = take(subscription, 1)
            delivery.ack()


def test_duplicates_are_dropped_and_committed(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """In any partition; the same id of another account is another result."""
    router.write(cutout(1), cutout(1), cutout(1, account="other"), cutout(2))
    router.write(cutout(2), partition=1)
    deliveries = take(results, 3)
    for delivery in deliveries:
        delivery.ack()
    assert {(d.event.id, d.event.account) for d in deliveries} == {
        (upload_id(1), "acct-17"),
        (upload_id(1), "other"),
        (upload_id(2), "acct-17"),
    }
    poll_until(results, lambda: committed(kafka, lane, 0) == 4 and committed(kafka, lane, 1) == 1)
    assert results.duplicates == 2


def test_unreadable_records_are_skipped_and_counted(
    kafka: KafkaFixture,
    lane: Lane,
    results: ResultSubscription,
    router: ResultWriter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A newer version, a foreign record and a broken one; the next result is delivered."""
    headers, value = to_wire(cutout(1), source="/router")
    newer = [(n, v.replace(b".v1", b".v9") if n == "ce_type" else v) for n, v in headers]
    broken = [(n, b"ann@example.org" if n == "ce_account" else v) for n, v in headers]
    router.write_wire(Wire(newer, value))
    router.write_wire(Wire([], b"hello"))
    router.write_wire(Wire(broken, value))
    router.write_wire(Wire([("ce_id", b"\xff")], b""))
    router.write(cutout(2))
    (delivery,) = take(results, 1)
    delivery.ack()
    assert delivery.event.id == upload_id(2)
    assert results.skipped == {
        Code.UNSUPPORTED_VERSION: 1,
        Code.INVALID_EVENT: 2,
        Code.INVALID_ACCOUNT: 1,
    }
    poll_until(results, lambda: committed(kafka, lane) == 5)
    skipped = [record for record in caplog.records if record.message == "result_skipped"]
    assert len(skipped) == 4
    assert "ann@" not in caplog.text


def test_aborted_results_are_not_delivered(
    results: ResultSubscription, router: ResultWriter
) -> None:
    router.abort(cutout(1))
    router.write(cutout(2))
    (delivery,) = take(results, 1)
    assert delivery.event.id == upload_id(2)


def test_lag_is_0_once_everything_is_acknowledged(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """The commit passes the markers of the router's transactions, committed and aborted ones."""
    router.transact(cutout(1), cutout(2))
    router.abort(cutout(3))
    router.transact(cutout(4), partition=1)
    for delivery in take(results, 3):
        delivery.ack()

    def lag() -> int:
        ends = kafka.offsets.log_ends(Partition(ephemeral_of(lane), n) for n in range(PARTITIONS))
        return sum(end - committed(kafka, lane, at.number) for at, end in ends.items())

    poll_until(results, lambda: lag() == 0)


def test_a_second_member_takes_over_and_nothing_is_lost(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """Partitions move with their acknowledgements; unacknowledged results go to the new owner."""
    router.write(*(cutout(n) for n in range(10)), partition=0)
    router.write(*(cutout(n) for n in range(10, 20)), partition=1)
    mine = take(results, 20)
    open_ids = {upload_id(9), upload_id(19)}
    for delivery in mine:
        if delivery.event.id not in open_ids:
            delivery.ack()
    with ResultSubscription(kafka.cluster, lane, group="test") as second:

        def moved_result() -> Delivery | None:
            assert results.poll(0.1) is None, "an open result was delivered twice to one session"
            return second.poll(0.1)

        moved = eventually("a partition has moved", moved_result, poll_s=0)
        assert moved.event.id in open_ids
        moved.ack()
    for delivery in mine:
        delivery.ack()
    poll_until(results, lambda: (committed(kafka, lane, 0), committed(kafka, lane, 1)) == (10, 10))


def test_a_poll_can_wait_for_any_time(results: ResultSubscription, router: ResultWriter) -> None:
    """Until a result comes, or until it is stopped."""
    router.write(cutout(1))
    assert results.poll(math.inf) is not None
    timer = threading.Timer(0.5, results.stop)
    timer.start()
    assert results.poll(math.inf) is None
    timer.join()


def test_stop_ends_the_iteration(results: ResultSubscription, router: ResultWriter) -> None:
    """From another thread, also while no result comes."""
    router.write(cutout(1), cutout(2))
    got = []
    timer = threading.Timer(0.5, results.stop)
    for delivery in results:
        got.append(delivery)
        if len(got) == 2:
            timer.start()
    timer.join()
    assert len(got) == 2
