"""The subscriptions, against a real broker with TLS and access rights."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES, ephemeral_of
from erasestream.topics.client.result_subscription import (
    AsyncResultSubscription,
    Delivery,
    ReceivingLimits,
    ResultSubscription,
)
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.errors import ClientErrorState
from tests.kafka_fixture import KafkaFixture

TIMEOUT_S = 30.0
NOW = datetime(2026, 3, 1, tzinfo=UTC)
OFTEN = ReceivingLimits(commit_every_s=0.0)


def upload_id(number: int) -> UploadId:
    """The id of an upload."""
    return UploadId(str(UUID(int=number)))


def cutout(number: int, *, account: str = "acct-17", data: bytes = b"cut") -> Cutout:
    """The result of upload `number`."""
    return Cutout(
        id=upload_id(number),
        time=NOW,
        account=AccountId(account),
        reference=f"listing-{number}",
        position=Position(topic_id="A" * 22, partition=0, offset=number),
        uploaded_at=NOW,
        content_type="image/png",
        model="tiny",
        model_sha256="0" * 64,
        model_version="1",
        data=data,
    )


def failure(number: int) -> Failure:
    """The failed result of upload `number`."""
    return Failure(
        id=upload_id(number),
        time=NOW,
        account=AccountId("acct-17"),
        position=Position(topic_id="A" * 22, partition=0, offset=number),
        uploaded_at=NOW,
        code=Code.TRUNCATED,
        sentence="cut off",
    )


class Router:
    """Writes results as the router does, or what only a stranger would write."""

    def __init__(self, kafka: KafkaFixture, lane: Lane) -> None:
        self._topic = ephemeral_of(lane)
        connection = kafka.connection(ROUTER)
        self._settings = connection.settings(ClientErrorState(), message_max_bytes=MAX_RECORD_BYTES)
        self._client = Producer(self._settings)

    def write(self, *results: Cutout | Failure, partition: int = 0) -> None:
        """Append these results."""
        for result in results:
            self.write_wire(to_wire(result, source="/router"), partition=partition)

    def write_wire(self, wire: Wire, *, partition: int = 0) -> None:
        """Append one record and wait for its acknowledgement."""
        errors: list[object] = []
        self._client.produce(
            self._topic,
            wire.value,
            partition=partition,
            headers=list(wire.headers),
            on_delivery=lambda error, _: errors.append(error),
        )
        assert self._client.flush(TIMEOUT_S) == 0
        assert errors == [None]

    def abort(self, *results: Cutout | Failure) -> None:
        """Append these results in a transaction that is aborted."""
        client = Producer(self._settings | {"transactional.id": f"{ROUTER}.test"})
        client.init_transactions(TIMEOUT_S)
        client.begin_transaction()
        for result in results:
            wire = to_wire(result, source="/router")
            client.produce(self._topic, wire.value, partition=0, headers=list(wire.headers))
        client.flush(TIMEOUT_S)
        client.abort_transaction(TIMEOUT_S)


@pytest.fixture
def router(kafka: KafkaFixture, lane: Lane) -> Router:
    """Who fills the lane's ephemeral topic."""
    return Router(kafka, lane)


@pytest.fixture
def results(kafka: KafkaFixture, lane: Lane) -> Iterator[ResultSubscription]:
    """A subscription of group `test`."""
    with ResultSubscription(kafka.cluster, lane, group="test", limits=OFTEN) as subscription:
        yield subscription


def take(results: ResultSubscription, count: int) -> list[Delivery]:
    """The next deliveries; fails if fewer come in time."""
    deliveries = [results.poll(TIMEOUT_S) for _ in range(count)]
    assert None not in deliveries, f"{deliveries.count(None)} of {count} missing"
    return [delivery for delivery in deliveries if delivery is not None]


def committed(kafka: KafkaFixture, lane: Lane, partition: int = 0, group: str = "test") -> int:
    """The offset that the group has committed; negative if none."""
    asked = ConsumerGroupTopicPartitions(
        f"{lane}.consumer.{group}", [TopicPartition(ephemeral_of(lane), partition)]
    )
    with kafka.admin_client() as client:
        futures = client.list_consumer_group_offsets([asked])
        (answer,) = [future.result(TIMEOUT_S) for future in futures.values()]
    offset: int = answer.topic_partitions[0].offset
    return offset


def poll_until(results: ResultSubscription, condition: Callable[[], bool]) -> None:
    """Poll, as a reader with nothing to do, until the condition holds."""
    for _ in range(100):
        if condition():
            return
        assert results.poll(0.1) is None
    raise AssertionError("it never became true")


def test_results_come_as_they_were_written(results: ResultSubscription, router: Router) -> None:
    """A cut-out and a failure arrive typed, with their reference, from the oldest on."""
    router.write(cutout(1), failure(2))
    first, second = take(results, 2)
    assert first.event == cutout(1)
    assert second.event == failure(2)
    assert (first.partition, first.offset) == (0, 0)
    assert first.appended_at <= datetime.now(UTC)
    assert "cut" not in repr(first).replace("cutout", "")


def test_the_largest_cutout_arrives(results: ResultSubscription, router: Router) -> None:
    """64 MB fit through every limit of the client, and small ones after it."""
    router.write(cutout(1, data=bytes(MAX_CUTOUT_BYTES)), cutout(2))
    large, small = take(results, 2)
    assert isinstance(large.event, Cutout)
    assert len(large.event.data) == MAX_CUTOUT_BYTES
    assert small.event.id == upload_id(2)


def test_what_is_acknowledged_is_committed(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: Router
) -> None:
    """Commits follow acknowledgements up to the first hole, while the reader polls."""
    router.write(*(cutout(n) for n in range(1, 5)))
    deliveries = take(results, 4)
    deliveries[1].ack()
    deliveries[0].ack()
    deliveries[0].ack()
    deliveries[3].ack()
    poll_until(results, lambda: committed(kafka, lane) == 2)
    deliveries[2].ack()
    poll_until(results, lambda: committed(kafka, lane) == 4)


def test_what_is_not_acknowledged_comes_again(
    kafka: KafkaFixture, lane: Lane, router: Router
) -> None:
    """After a restart everything from the first open result on is delivered; done is not."""
    router.write(*(cutout(n) for n in range(1, 5)))
    with ResultSubscription(kafka.cluster, lane, group="test") as first:
        for delivery in take(first, 4):
            if delivery.event.id != upload_id(3):
                delivery.ack()
    with ResultSubscription(kafka.cluster, lane, group="test") as second:
        assert [d.event.id for d in take(second, 2)] == [upload_id(3), upload_id(4)]


def test_groups_do_not_share(kafka: KafkaFixture, lane: Lane, router: Router) -> None:
    """Each group gets every result."""
    router.write(cutout(1))
    for group in ("one", "two"):
        with ResultSubscription(kafka.cluster, lane, group=group) as subscription:
            (delivery,) = take(subscription, 1)
            delivery.ack()


def test_duplicates_are_removed(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: Router
) -> None:
    """The same account and id are delivered once, in whatever partition, and committed."""
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


def test_what_can_not_be_read_is_passed_over(
    kafka: KafkaFixture,
    lane: Lane,
    results: ResultSubscription,
    router: Router,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A newer version, a foreign record and a broken one are counted; the next one comes."""
    headers, value = to_wire(cutout(1), source="/router")
    newer = [(n, v.replace(b".v1", b".v9") if n == "ce_type" else v) for n, v in headers]
    broken = [(n, b"nobody@example.org" if n == "ce_account" else v) for n, v in headers]
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
    assert "nobody" not in caplog.text


def test_aborted_results_are_not_delivered(results: ResultSubscription, router: Router) -> None:
    """Only what the router committed is read."""
    router.abort(cutout(1))
    router.write(cutout(2))
    (delivery,) = take(results, 1)
    assert delivery.event.id == upload_id(2)


def test_a_second_member_takes_over_and_nothing_is_lost(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: Router
) -> None:
    """Partitions move with their acknowledgements; open results go to the new owner."""
    router.write(*(cutout(n) for n in range(10)), partition=0)
    router.write(*(cutout(n) for n in range(10, 20)), partition=1)
    mine = take(results, 20)
    open_ids = {upload_id(9), upload_id(19)}
    for delivery in mine:
        if delivery.event.id not in open_ids:
            delivery.ack()
    with ResultSubscription(kafka.cluster, lane, group="test") as second:
        moved = None
        for _ in range(150):
            assert results.poll(0.1) is None, "an open result was delivered twice to one session"
            moved = moved or second.poll(0.1)
            if moved:
                break
        assert moved is not None
        assert moved.event.id in open_ids
        moved.ack()
    for delivery in mine:
        delivery.ack()
    poll_until(results, lambda: (committed(kafka, lane, 0), committed(kafka, lane, 1)) == (10, 10))


def test_brokers_that_are_away_are_waited_for(
    kafka: KafkaFixture,
    lane: Lane,
    results: ResultSubscription,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A restart of the broker ends nothing; it is said once, and results go on.

    Once until it is over: a broker that has just started may be away once more.
    """
    Router(kafka, lane).write(cutout(1))
    take(results, 1)[0].ack()
    poll_until(results, lambda: committed(kafka, lane) == 1)
    kafka.broker.stop()
    try:
        for _ in range(15):
            assert results.poll(0.2) is None
        assert [record.message for record in caplog.records].count("broker_trouble") <= 1
    finally:
        kafka.broker.start()
    Router(kafka, lane).write(cutout(2))
    (delivery,) = take(results, 1)
    assert delivery.event.id == upload_id(2)
    events = ("broker_trouble", "broker_back")
    said = [record.message for record in caplog.records if record.message in events]
    assert said
    assert said == [events[n % 2] for n in range(len(said))]


def test_stop_ends_the_iteration(results: ResultSubscription, router: Router) -> None:
    """`stop` from another thread ends the loop, also while nothing comes."""
    router.write(cutout(1), cutout(2))
    got = []
    timer = threading.Timer(0.5, results.stop)
    for delivery in results:
        got.append(delivery)
        if len(got) == 2:
            timer.start()
    timer.join()
    assert len(got) == 2


def test_a_closed_subscription_says_so(kafka: KafkaFixture, lane: Lane) -> None:
    """Polling after close is refused; closing again and late acknowledgements are not."""
    subscription = ResultSubscription(kafka.cluster, lane, group="test")
    subscription.close()
    subscription.close()
    with pytest.raises(Refused) as caught:
        subscription.poll(0.0)
    assert caught.value.code is Code.CLOSED
    assert list(subscription) == []


@pytest.mark.parametrize("group", ["", "a b", "x" * 65, "ü"])
def test_a_group_has_a_plain_name(kafka: KafkaFixture, lane: Lane, group: str) -> None:
    """A name that no right covers is refused before anything is asked."""
    with pytest.raises(Refused, match="group"):
        ResultSubscription(kafka.cluster, lane, group=group)


def test_another_lanes_results_can_not_be_read(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    """A certificate of another lane is refused, and the topic is named."""
    other = kafka.open_lane()
    shutil.copy(kafka.identities / "ca.crt", tmp_path)
    for suffix in ("crt", "key"):
        source = kafka.identities / f"{other}.consumer.{suffix}"
        shutil.copy(source, tmp_path / f"{lane}.consumer.{suffix}")
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=tmp_path)
    with pytest.raises(Refused, match=ephemeral_of(lane)) as caught:
        ResultSubscription(cluster, lane, group="test")
    assert caught.value.code is Code.NOT_AUTHORIZED


def test_a_right_that_is_taken_away_is_said(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: Router
) -> None:
    """When the role may not read any more, poll raises instead of waiting for ever."""
    router.write(cutout(1))
    take(results, 1)

    def read_on() -> None:
        for _ in range(100):
            router.write(cutout(2))
            results.poll(0.2)

    with kafka.without_rights(f"{lane}.consumer"), pytest.raises(Refused) as caught:
        read_on()
    assert caught.value.code is Code.NOT_AUTHORIZED
    assert f"{lane}.consumer" in caught.value.sentence
    assert ephemeral_of(lane) in caught.value.sentence


def test_brokers_that_are_away_at_the_start_are_unavailable(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """The constructor gives up at its deadline."""
    cluster = Cluster(bootstrap_servers=("127.0.0.1:9",), identities=kafka.identities)
    with pytest.raises(Unavailable):
        ResultSubscription(cluster, lane, group="test", limits=ReceivingLimits(readiness_s=1.0))


async def test_the_async_twin_delivers(kafka: KafkaFixture, lane: Lane, router: Router) -> None:
    """`async for` gives every result once, commits what is acknowledged, and `stop` ends it."""
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
    kafka: KafkaFixture, lane: Lane, router: Router
) -> None:
    """What came while a task was being cancelled is delivered to the next one."""
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


async def test_two_tasks_share_one_subscription(
    kafka: KafkaFixture, lane: Lane, router: Router
) -> None:
    """Tasks that poll at the same time never get the same result."""
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
