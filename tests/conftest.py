"""A Kafka broker for each test worker, and a lane for each test that asks for one."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import ADMIN
from erasestream.topics.kafka.connection import ErrorWatch
from tests.kafka_fixture import Market, opened_market


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """One broker for all tests of the topics; they leave it running."""
    with opened_market(tmp_path_factory.mktemp("market")) as market:
        yield market


@pytest.fixture
def lane(market: Market) -> Lane:
    """A lane of the test's own."""
    return market.open_lane()


@pytest.fixture
def record_of(market: Market) -> Callable[[str, int, int], Message]:
    """Reads the record at topic, partition and offset, as somebody who may read everything."""

    def read(topic: str, partition: int, offset: int) -> Message:
        settings = market.connection(ADMIN).settings(ErrorWatch(), group_id="test")
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
