"""A Kafka broker for each test worker, and a lane for each test that asks for one."""

import gc
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.errors import ClientErrorState
from tests.kafka_fixture import KafkaFixture, opened_kafka

pytest_plugins = ["tests.schedule"]

# No example has a time limit, and slow generation is no failure: a busy machine is slow.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


def pytest_collection_finish() -> None:
    """Leave modules and collected tests out of every later search for garbage.

    A search takes 70 ms with them and 5 ms without, and tests of leaks search hundreds of times.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """Run one broker for all tests of a worker; they leave it running.

    It has a second listener, for clients that come through a proxy.
    """
    port, advertised_port = free_ports(2)
    listener = ProxiedListener(port=port, advertised_port=advertised_port)
    with opened_kafka(tmp_path_factory.mktemp("kafka"), proxied_listener=listener) as kafka:
        yield kafka


@pytest.fixture
def lane(kafka: KafkaFixture) -> Iterator[Lane]:
    """Open a lane that no other test uses."""
    yield kafka.open_lane()
    kafka.evict_static_members()


@pytest.fixture
def record_of(kafka: KafkaFixture) -> Callable[[str, int, int], Message]:
    """Return a function that reads the record at topic, partition and offset, as administrator."""

    def read(topic: str, partition: int, offset: int) -> Message:
        settings = kafka.connection(ADMIN).settings(ClientErrorState(), group_id="test")
        consumer = Consumer(settings | {"fetch.message.max.bytes": 30_000_000})
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            message = consumer.poll(20.0)
            assert message is not None
            assert message.error() is None
            return message
        finally:
            consumer.close()

    return read
