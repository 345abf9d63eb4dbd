"""A client loses all its connections at once, at the worst moment.

The exactly-once loop, as it asks for offsets or commits: librdkafka 2.16 then drops its brokers
before it has others, and never resends the request: the call does not return.  Connections are not
cut at the end of a transaction: a broker that gets that request twice, since its first answer was
lost, may refuse the second.  The client is then fenced and its process ends; its successor
continues.

A producer, before it knows what the broker has appended: librdkafka resends it, and under another
number if it has given up another record meanwhile, so that it is appended twice.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener
from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.client.upload_producer import SendingLimits, UploadProducer
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.producer import producer_pool
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.calls import AbortRequired
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import Found
from tests.faults.proxy import HOST, Proxy
from tests.flow.pictures import photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.client.uploads import upload_until_acknowledged
from tests.topics.kafka.transaction.copy_handler import CopyHandler

VALUES = [b"one", b"two", b"three", b"four"]


class CuttingHandler(CopyHandler):
    """Cuts the loop's connections once for each record: as it commits, or before it restarts."""

    def __init__(self, to: str, proxy: Proxy, *, at_commit: bool) -> None:
        super().__init__(to)
        self._proxy = proxy
        self._at_commit = at_commit
        self.cuts = 0
        self._refused = 0

    def _cut(self) -> None:
        if self.cuts < len(set(self.handled)):
            self._proxy.cut_all()
            self.cuts += 1

    def before_finding_offsets(self) -> None:
        """Cut before the loop asks for its start offsets; no transaction is open."""
        if not self._at_commit:
            self._cut()

    def offset_metadata(self, _at: Partition) -> str:
        """Cut just before a commit."""
        if self._at_commit:
            self._cut()
        return ""

    def refuse_once(self) -> None:
        """Refuse a commit once for each record, so that its offset is asked for again."""
        if not self._at_commit and self._refused < len(set(self.handled)):
            self._refused += 1
            raise AbortRequired(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))


def raise_unless_of_a_cut(error: Fenced) -> None:
    """Accept that a transaction was ended twice: about once in twenty times, see above."""
    if "invalid state" not in str(error):
        raise error


def close(closed: Callable[[], None]) -> None:
    """Close a loop, or the consumer of one; either aborts an open transaction."""
    try:
        closed()
    except Fenced as error:
        raise_unless_of_a_cut(error)


@pytest.fixture
def listener(kafka: KafkaFixture) -> ProxiedListener:
    """Return the listener that is reached through the proxy."""
    listener = kafka.broker.config.proxied_listener
    assert listener
    return listener


@pytest.fixture
def proxy(listener: ProxiedListener) -> Iterator[Proxy]:
    """Run the proxy in front of the second listener."""
    proxy = Proxy(port=listener.advertised_port, target=listener.port)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def proxied(kafka: KafkaFixture, listener: ProxiedListener) -> Cluster:
    """Return the cluster as reached through the proxy."""
    servers = (f"{HOST}:{listener.advertised_port}",)
    return Cluster(bootstrap_servers=servers, identities=kafka.identities)


@pytest.mark.parametrize(
    "at_commit", [True, False], ids=["at a commit", "before the start offsets"]
)
def test_a_loop_without_connections_recovers(
    kafka: KafkaFixture, lane: Lane, proxy: Proxy, proxied: Cluster, at_commit: bool
) -> None:
    """The loop or its successor continues, and every record is written once."""
    harness = KafkaRouterHarness(kafka, lane)
    copy = CuttingHandler(ephemeral_of(harness.lane), proxy, at_commit=at_commit)

    def start() -> TransactionalLoop:
        loop = TransactionalLoop(
            connection=Connection(cluster=proxied, role=ROUTER),
            topics=[cutouts_of(harness.lane)],
            instance="copy",
            handler=copy,
            stopping=threading.Event(),
            listener=QuarantineRegistry(),
        )
        start_offsets = loop._clients.start_offsets
        find = start_offsets.find

        def cut_and_find(partitions: Iterable[Partition]) -> Found:
            copy.before_finding_offsets()
            return find(partitions)

        start_offsets.find = cut_and_find  # type: ignore[method-assign]
        producer = loop._clients.producer
        commit = producer.commit

        def refuse_or_commit(offsets: list[TopicPartition], consumer: Consumer) -> None:
            copy.refuse_once()
            commit(offsets, consumer)

        producer.commit = refuse_or_commit  # type: ignore[method-assign]
        loop.start()
        return loop

    def written() -> list[bytes]:
        return [record.value for record in harness.records(ephemeral_of(harness.lane), 2)]

    loop, before = start(), 0
    try:
        for count, value in enumerate(VALUES, start=1):
            harness.produce(cutouts_of(harness.lane), [value])

            def committed(count: int = count) -> bool:
                nonlocal loop, before
                try:
                    loop.run_once()
                except Fenced as error:
                    raise_unless_of_a_cut(error)
                    close(loop._clients.consumer.close)
                    loop = start()
                    before = len(written())
                return before + loop.counters.records == count

            eventually("the record is committed", committed, poll_s=0)
    finally:
        close(loop.close)
        values = written()
        harness.close()
    assert values == VALUES
    assert copy.cuts == len(VALUES)


def test_an_appended_upload_is_not_resent_when_another_is_given_up(
    kafka: KafkaFixture,
    lane: Lane,
    proxy: Proxy,
    proxied: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker has appended both, and its answers are lost; the older is given up first."""

    def several_in_flight(settings: Settings) -> Producer:
        """Allow several requests, as to two brokers: each gets one request at a time."""
        return Producer(settings | {"max.in.flight": 5})

    monkeypatch.setattr(producer_pool, "Producer", several_in_flight)
    offsets = kafka.offsets

    def appended() -> int:
        partitions = (Partition(uploads_of(lane), number) for number in range(PARTITIONS))
        return sum(offsets.log_end(partition) for partition in partitions)

    limits = SendingLimits(delivery_s=12)
    with UploadProducer(proxied, lane, limits=limits, sealed=False) as producer:
        producer.send(photo(), account="acct").result(30)
        proxy.mute_all()
        older = producer.send(photo(), account="acct")
        eventually("the older is appended", lambda: appended() == 2)
        time.sleep(limits.delivery_s / 2)  # so that the younger is not given up for its own age
        younger = producer.send(photo(), account="acct")
        eventually("the younger is appended", lambda: appended() == 3)
        proxy.shut()
        try:
            assert isinstance(older.exception(60), Unavailable)
        finally:
            proxy.open()
        younger.exception(60)
        upload_until_acknowledged(producer)
    assert appended() == 4
