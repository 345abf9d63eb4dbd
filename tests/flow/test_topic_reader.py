"""The tests' own reader misses no record that is still in its topic."""

from contextlib import closing

import pytest
from confluent_kafka import Producer

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import cutouts_of
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from tests.flow.topic_reader import COMMITTED, UNCOMMITTED, TopicReader
from tests.kafka_fixture import PARTITIONS, KafkaFixture


@pytest.mark.parametrize("isolation", [COMMITTED, UNCOMMITTED])
def test_records_after_deleted_ones_are_read(
    kafka: KafkaFixture, lane: Lane, isolation: str
) -> None:
    """With its default reset policy, librdkafka continues at the end after a deleted record."""
    topic = cutouts_of(lane)
    producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState()))
    for value in (b"deleted", b"left", b"last"):
        producer.produce(topic, value, None, 0)
    assert producer.flush(20) == 0
    kafka.delete_records({Partition(topic, 0): 1})
    with closing(TopicReader(kafka.cluster, ADMIN, topic, PARTITIONS, isolation)) as reader:
        assert [record.value for record in reader.read_to_end()] == [b"left", b"last"]
