"""Clients that lost all broker metadata although the brokers are reachable, on a real broker."""

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
from erasestream.topics.client import result_reader, upload_sender
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


class FrequentMetadata(Connection):
    """Its clients request metadata all the time, also while a broker stops or starts."""

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        return super().settings(errors, **more) | {"topic.metadata.refresh.interval.ms": 10}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """Run a broker for this module, whose tests restart it."""
    with opened_kafka(tmp_path_factory.mktemp("broker-loss"), spare_lanes=2) as kafka:
        kafka.open_lane()  # with the roles that all lanes share
        yield kafka


@pytest.fixture
def without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe a client at once, and let one unanswered probe be enough."""
    monkeypatch.setattr(broker_loss_detector, "SUSPECT_AFTER_S", 0.0)
    monkeypatch.setattr(broker_loss_detector, "PROBE_EVERY_S", 0.0)
    monkeypatch.setattr(broker_loss_detector, "FAILED_PROBES", 1)


def unreachable_client(kafka: KafkaFixture, errors: ClientErrorState) -> Producer:
    """Return a client with the address of no broker, which has reported all brokers down."""
    settings = kafka.connection(ROUTER).settings(errors)
    client = Producer(settings | {"bootstrap.servers": "127.0.0.1:1"})

    def has_reported() -> bool:
        client.poll(0.1)
        return errors.all_down_since_s is not None

    eventually("all brokers are reported down", has_reported)
    return client


@pytest.mark.usefixtures("without_delay")
def test_a_client_is_lost_if_only_another_reaches_the_brokers(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors)
    client = unreachable_client(kafka, errors)
    assert detector.is_lost(client)
    assert errors.all_down_since_s is None
    assert not detector.is_lost(client)


@pytest.mark.usefixtures("without_delay")
def test_check_raises_unavailable_for_a_lost_client(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    client = unreachable_client(kafka, errors)
    with pytest.raises(Unavailable, match="lost all broker metadata"):
        BrokerLossDetector(kafka.connection(ROUTER), errors).check(client)


@pytest.mark.usefixtures("without_delay")
def test_no_client_is_lost_while_the_brokers_are_unavailable(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors)
    client = unreachable_client(kafka, errors)
    with kafka.silence():
        assert not detector.is_lost(client)
    assert detector.is_lost(client)


@pytest.mark.usefixtures("without_delay")
def test_a_client_that_reaches_the_brokers_again_is_not_lost(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    unreachable_client(kafka, errors)
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors)
    found = Producer(kafka.connection(ROUTER).settings(ClientErrorState()))
    assert not detector.is_lost(found)
    assert errors.all_down_since_s is None


def test_probes_wait_and_are_spaced(kafka: KafkaFixture) -> None:
    now = [time.monotonic()]
    errors = ClientErrorState()
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors, clock=lambda: now[0])
    client = unreachable_client(kafka, errors)
    assert not detector.is_lost(client)
    now[0] += 2 * broker_loss_detector.SUSPECT_AFTER_S
    with kafka.silence():
        assert not detector.is_lost(client)
    assert not detector.is_lost(client)
    for is_enough in (False, False, True):
        now[0] += 2 * broker_loss_detector.PROBE_EVERY_S
        assert detector.is_lost(client) == is_enough


def test_clients_survive_restarts_of_the_only_broker(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the broker answered, while it stopped or started, that there are no brokers."""
    for module in (result_reader, upload_sender):
        monkeypatch.setattr(module, "Connection", FrequentMetadata)
    place = Partition(LEDGER, 0)
    writes = AcknowledgedWriter(
        connection=FrequentMetadata(cluster=kafka.cluster, role=ROUTER), timeout_s=5
    )
    reads = FrequentMetadata(cluster=kafka.cluster, role=OPERATOR)
    seen: list[Record] = []
    view = CompactedView(connection=reads, topics={LEDGER: 1}, apply=seen.append)
    limits = SendingLimits(delivery_s=15)
    with (
        UploadProducer(kafka.cluster, lane, limits=limits, sealed=False) as producer,
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
                eventually(goes_on.__name__, false_while_unavailable(goes_on))
            kafka.broker.stop()
            kafka.broker.start()
    view.close()


def false_while_unavailable(attempt: Callable[[], bool]) -> Callable[[], bool]:
    """Return the attempt, with False in place of `Unavailable`."""

    def succeeds() -> bool:
        try:
            return attempt()
        except Unavailable:
            return False

    return succeeds
