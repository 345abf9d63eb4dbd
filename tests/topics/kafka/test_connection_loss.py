"""A client loses all its connections at once, just when that is worst.

The exactly-once loop, as it asks or commits: with librdkafka 2.16 it drops its brokers then before
it has others, and what it was about to send again never is: the call does not come back.  The end
of a transaction is spared: a broker that is told it twice, since its first answer was lost, may
refuse the second.  The client then is fenced, and its process ends; whoever comes next goes on.

A producer, before it is told what the broker has already: librdkafka sends that again, and under
another number if it has given up something else meanwhile, so that it is appended twice.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import pytest
from confluent_kafka import Producer

from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener
from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.client.upload_producer import SendingLimits, UploadProducer
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.producer import producer_pool
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.faults.proxy import HOST, Proxy
from tests.flow.pictures import photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.client.uploads import upload_until_acknowledged
from tests.topics.kafka.transaction.copy_handler import CopyHandler

VALUES = [b"one", b"two", b"three", b"four"]


class Cutting(CopyHandler):
    """Cuts the loop off once for each record: as it commits, or as it is to read it again."""

    def __init__(self, to: str, proxy: Proxy, *, at_commit: bool) -> None:
        super().__init__(to)
        self._proxy = proxy
        self._at_commit = at_commit
        self.cuts = 0

    def _cut(self) -> None:
        if self.cuts < len(set(self.handled)):
            self._proxy.cut_all()
            self.cuts += 1

    def before_asking(self) -> None:
        """The loop is about to ask where to begin; no transaction is open."""
        if not self._at_commit:
            self._cut()

    def offset_metadata(self, _at: Partition) -> str:
        """Asked for just before a commit."""
        if self._at_commit:
            self._cut()
        return ""

    def on_half_decided(self, record: Record) -> None:
        """What the record needs is away for a moment, so where it lies is asked for again."""
        if not self._at_commit and record.value not in self.handled:
            self.handled.append(record.value)
            raise Unavailable("for a moment")


@pytest.fixture(scope="module")
def ways() -> ProxiedListener:
    """Where a second listener listens, and where the proxy before it does."""
    port, advertised_port = free_ports(2)
    return ProxiedListener(port=port, advertised_port=advertised_port)


@pytest.fixture(scope="module")
def kafka(
    tmp_path_factory: pytest.TempPathFactory, ways: ProxiedListener
) -> Iterator[KafkaFixture]:
    """A broker of this module's own."""
    with opened_kafka(tmp_path_factory.mktemp("cut-off"), proxied_listener=ways) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def proxy(ways: ProxiedListener) -> Iterator[Proxy]:
    """What the loop goes through."""
    proxy = Proxy(port=ways.advertised_port, target=ways.port)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def proxied(kafka: KafkaFixture, ways: ProxiedListener) -> Cluster:
    """The way through the proxy."""
    servers = (f"{HOST}:{ways.advertised_port}",)
    return Cluster(bootstrap_servers=servers, identities=kafka.identities)


@pytest.mark.parametrize("at_commit", [True, False], ids=["commits", "asks where to begin"])
def test_a_loop_that_is_cut_off_goes_on(
    kafka: KafkaFixture, proxy: Proxy, proxied: Cluster, at_commit: bool
) -> None:
    """By itself or its successor, and everything is there once."""
    bench = KafkaRouterHarness(kafka, kafka.open_lane())
    copy = Cutting(ephemeral_of(bench.lane), proxy, at_commit=at_commit)

    def started() -> TransactionalLoop:
        loop = TransactionalLoop(
            connection=Connection(cluster=proxied, role=ROUTER),
            topics=[cutouts_of(bench.lane)],
            instance="copy",
            handler=copy,
            stopping=threading.Event(),
        )
        start_offsets = loop._clients.start_offsets
        find = start_offsets.find

        def find_cut_off(partitions: Iterable[Partition]) -> Mapping[Partition, StartOffset]:
            copy.before_asking()
            return find(partitions)

        start_offsets.find = find_cut_off  # type: ignore[method-assign]
        loop.start()
        return loop

    def written() -> list[bytes]:
        return [record.value for record in bench.records(ephemeral_of(bench.lane), 2)]

    loop, before = started(), 0
    try:
        for count, value in enumerate(VALUES, start=1):
            bench.produce(cutouts_of(bench.lane), [value])

            def committed(count: int = count) -> bool:
                nonlocal loop, before
                try:
                    loop.run_once()
                except Fenced as error:  # once in some twenty times: see above
                    if "invalid state" not in str(error):
                        raise
                    loop._clients.consumer.close()
                    loop = started()
                    before = len(written())
                return before + loop.counters.records == count

            eventually("it is committed", committed, deadline_s=60, poll_s=0)
    finally:
        loop.close()
        values = written()
        bench.close()
    assert values == VALUES
    assert copy.cuts == len(VALUES)


def test_what_lies_there_is_not_sent_again_when_another_upload_is_given_up(
    kafka: KafkaFixture, proxy: Proxy, proxied: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has both, and its answers are lost; the older is given up first."""

    def several_in_flight(settings: Settings) -> Producer:
        """As if the two lay on two brokers: each of these is sent one request at a time."""
        return Producer(settings | {"max.in.flight": 5})

    monkeypatch.setattr(producer_pool, "Producer", several_in_flight)
    lane = kafka.open_lane()
    offsets = kafka.offsets

    def lying() -> int:
        partitions = (Partition(uploads_of(lane), number) for number in range(PARTITIONS))
        return sum(offsets.log_end(partition) for partition in partitions)

    limits = SendingLimits(delivery_s=12)
    with UploadProducer(proxied, lane, limits=limits) as producer:
        producer.send(photo(), account="acct").result(30)
        proxy.mute_all()
        older = producer.send(photo(), account="acct")
        eventually("the older lies there", lambda: lying() == 2)
        time.sleep(limits.delivery_s / 2)  # so that the younger is not given up for its own age
        younger = producer.send(photo(), account="acct")
        eventually("the younger lies there", lambda: lying() == 3)
        proxy.shut()
        try:
            assert isinstance(older.exception(60), Unavailable)
        finally:
            proxy.open()
        younger.exception(60)
        upload_until_acknowledged(producer)
    assert lying() == 4
