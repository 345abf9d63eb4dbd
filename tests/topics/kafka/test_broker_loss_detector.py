"""Clients that lost all broker metadata although the brokers are reachable, on a real broker."""

import time

import pytest
from confluent_kafka import Producer

from erasestream.schemas.errors import Unavailable
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.kafka import broker_loss_detector
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.errors import ClientErrorState
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture


@pytest.fixture(autouse=True)
def roles(kafka: KafkaFixture) -> None:
    """Open a lane if there is none, and so the identities of the roles that all lanes share."""
    if not kafka.lanes:
        kafka.open_lane()


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
    # On a busy machine another client, too, can be slower than a probe's timeout.
    eventually("it is lost", lambda: detector.is_lost(client))
    assert errors.all_down_since_s is None
    assert not detector.is_lost(client)


@pytest.mark.usefixtures("without_delay")
def test_check_raises_unavailable_for_a_lost_client(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    client = unreachable_client(kafka, errors)
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors)
    with pytest.raises(Unavailable, match="lost all broker metadata"):
        eventually("it is lost", lambda: detector.check(client))  # type: ignore[func-returns-value]


@pytest.mark.usefixtures("without_delay")
def test_no_client_is_lost_while_the_brokers_are_unavailable(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors)
    client = unreachable_client(kafka, errors)
    with kafka.silence():
        assert not detector.is_lost(client)
    eventually("it is lost", lambda: detector.is_lost(client))


@pytest.mark.usefixtures("without_delay")
def test_a_client_that_reaches_the_brokers_again_is_not_lost(kafka: KafkaFixture) -> None:
    errors = ClientErrorState()
    unreachable_client(kafka, errors)
    detector = BrokerLossDetector(kafka.connection(ROUTER), errors)
    found = Producer(kafka.connection(ROUTER).settings(ClientErrorState()))
    found.list_topics(timeout=60)
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

    def is_lost_at_the_next_probe() -> bool:
        now[0] += 2 * broker_loss_detector.PROBE_EVERY_S
        return detector.is_lost(client)

    assert not is_lost_at_the_next_probe()
    assert not is_lost_at_the_next_probe()
    eventually("the third probe is enough", is_lost_at_the_next_probe)
