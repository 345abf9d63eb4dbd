"""Clients that have lost their brokers although these are there, on a real broker."""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import OPERATOR, ROUTER
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.client import result_consumer, upload_sender
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits
from erasestream.topics.kafka import broker_loss_detector
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.pictures import photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.topics.client.results import ResultWriter, cutout

RESTARTS = 3


class Curious(Connection):
    """Its clients ask about the cluster all the time, also while a broker stops or starts."""

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        """The settings, but for that."""
        return super().settings(errors, **more) | {"topic.metadata.refresh.interval.ms": 10}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """A broker of this module's own."""
    with opened_kafka(tmp_path_factory.mktemp("lifeline")) as kafka:
        kafka.open_lane()  # with the roles that all lanes share
        yield kafka


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before it is asked, and once is enough."""
    monkeypatch.setattr(broker_loss_detector, "SUSPECT_AFTER_S", 0.0)
    monkeypatch.setattr(broker_loss_detector, "PROBE_EVERY_S", 0.0)
    monkeypatch.setattr(broker_loss_detector, "FAILED_PROBES", 1)


def astray(kafka: KafkaFixture, watch: ClientErrorState) -> Producer:
    """A client that looks for brokers where none are, and has noticed."""
    settings = kafka.connection(ROUTER).settings(watch)
    client = Producer(settings | {"bootstrap.servers": "127.0.0.1:1"})

    def has_noticed() -> bool:
        client.poll(0.1)
        return watch.all_down_since_s is not None

    eventually("it says that all are away", has_noticed)
    return client


@pytest.mark.usefixtures("at_once")
def test_a_client_that_reaches_nobody_is_lost_if_another_does(kafka: KafkaFixture) -> None:
    """And whoever starts again has lost nobody."""
    watch = ClientErrorState()
    line = BrokerLossDetector(kafka.connection(ROUTER), watch)
    client = astray(kafka, watch)
    assert line.is_lost(client)
    assert watch.all_down_since_s is None
    assert not line.is_lost(client)


@pytest.mark.usefixtures("at_once")
def test_stages_end(kafka: KafkaFixture) -> None:
    """Their successors have new clients."""
    watch = ClientErrorState()
    client = astray(kafka, watch)
    with pytest.raises(Unavailable, match="lost all broker metadata"):
        BrokerLossDetector(kafka.connection(ROUTER), watch).check(client)


@pytest.mark.usefixtures("at_once")
def test_nobody_is_lost_while_the_brokers_are_away(kafka: KafkaFixture) -> None:
    """Another client would wait just the same."""
    watch = ClientErrorState()
    line = BrokerLossDetector(kafka.connection(ROUTER), watch)
    client = astray(kafka, watch)
    with kafka.silence():
        assert not line.is_lost(client)
    assert line.is_lost(client)


@pytest.mark.usefixtures("at_once")
def test_a_client_that_has_found_them_again_is_not_lost(kafka: KafkaFixture) -> None:
    """Its word of before counts no more."""
    watch = ClientErrorState()
    astray(kafka, watch)
    line = BrokerLossDetector(kafka.connection(ROUTER), watch)
    found = Producer(kafka.connection(ROUTER).settings(ClientErrorState()))
    assert not line.is_lost(found)
    assert watch.all_down_since_s is None


def test_nobody_is_asked_too_soon_or_too_often(kafka: KafkaFixture) -> None:
    """A question takes some seconds while the brokers are away."""
    now = [time.monotonic()]
    watch = ClientErrorState()
    line = BrokerLossDetector(kafka.connection(ROUTER), watch, clock=lambda: now[0])
    client = astray(kafka, watch)
    assert not line.is_lost(client)
    now[0] += 2 * broker_loss_detector.SUSPECT_AFTER_S
    with kafka.silence():
        assert not line.is_lost(client)
    assert not line.is_lost(client)
    for is_enough in (False, False, True):
        now[0] += 2 * broker_loss_detector.PROBE_EVERY_S
        assert line.is_lost(client) == is_enough


def test_restarts_of_the_only_broker_end_nothing(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it said, while it stopped or started, that there are no brokers."""
    for module in (result_consumer, upload_sender):
        monkeypatch.setattr(module, "Connection", Curious)
    place = Partition(LEDGER, 0)
    writes = AcknowledgedWriter(connection=Curious(cluster=kafka.cluster, role=ROUTER), timeout_s=5)
    reads = Curious(cluster=kafka.cluster, role=OPERATOR)
    seen: list[Record] = []
    view = CompactedView(connection=reads, topics={LEDGER: 1}, apply=seen.append)
    limits = SendingLimits(delivery_s=15)
    with (
        UploadProducer(kafka.cluster, lane, limits=limits) as producer,
        ResultSubscription(kafka.cluster, lane, group="test") as results,
    ):
        numbers = itertools.count()

        def is_written() -> bool:
            return bool(writes.write(place, b"key", Wire(headers=[], value=b"value")))

        def is_seen() -> bool:
            before = len(seen)
            view.catch_up(view.mark(), deadline_s=5)
            return len(seen) > before

        def is_uploaded() -> bool:
            return bool(producer.send(photo(), account="acct").result(30))

        def is_delivered() -> bool:
            ResultWriter(kafka, lane).write(cutout(next(numbers)))
            return results.poll(5.0) is not None

        for _ in range(RESTARTS):
            for goes_on in (is_written, is_seen, is_uploaded, is_delivered):
                eventually(goes_on.__name__, patient(goes_on), deadline_s=150)
            kafka.broker.stop()
            kafka.broker.start()
    view.close()


def patient(attempt: Callable[[], bool]) -> Callable[[], bool]:
    """The same; false while the brokers are away."""

    def succeeds() -> bool:
        try:
            return attempt()
        except Unavailable:
            return False

    return succeeds
