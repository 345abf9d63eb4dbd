"""What the client library raises does not leave the writers as it came."""

import threading

import pytest
from confluent_kafka import KafkaError

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.producer import TransactionalProducer
from tests.kafka_fixture import KafkaFixture


class Narrow(Connection):
    """A connection whose clients have room for one kilobyte."""

    def settings(self, watch: ClientErrorState, **more: object) -> Settings:
        """The settings, but for that."""
        return super().settings(watch, queue_buffering_max_kbytes=1, **more)


def test_a_full_queue_is_unavailable(kafka: KafkaFixture, lane: Lane) -> None:
    """The caller tries again, as for any other write that did not come through."""
    assert lane in kafka.lanes
    writes = AcknowledgedWriter(connection=Narrow(cluster=kafka.cluster, role=ROUTER), timeout_s=5)
    large = Wire(headers=(), value=bytes(4_000))
    with pytest.raises(Unavailable, match="too many records wait"):
        writes.write(Partition(LEDGER, 0), b"key", large)


def test_a_transaction_that_can_not_begin_is_unavailable(kafka: KafkaFixture, lane: Lane) -> None:
    """Before its predecessor is fenced there is none."""
    assert lane in kafka.lanes
    writes = TransactionalProducer(
        connection=kafka.connection(ROUTER),
        instance="never-started",
        stopping=threading.Event(),
        errors=ClientErrorState(),
    )
    with pytest.raises(Unavailable, match="transaction"):
        writes.begin()


def test_a_call_that_a_fenced_client_keeps_is_given_up(kafka: KafkaFixture, lane: Lane) -> None:
    """The client has said that it can not go on: nobody waits for its answer any more."""
    assert lane in kafka.lanes
    watch = ClientErrorState()
    writes = TransactionalProducer(
        connection=kafka.connection(ROUTER),
        instance="fenced",
        stopping=threading.Event(),
        errors=watch,
    )
    watch(KafkaError(KafkaError._FATAL, "another took its name", fatal=True))
    never = threading.Event()
    with pytest.raises(Fenced, match="another took its name"):
        writes._calls.make(never.wait)
    never.set()
