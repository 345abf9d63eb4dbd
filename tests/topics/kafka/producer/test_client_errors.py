"""Errors of the client library are raised as errors of ours."""

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


class SmallQueueConnection(Connection):
    """Its clients have a queue of one kilobyte."""

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        return super().settings(errors, queue_buffering_max_kbytes=1, **more)


def test_a_full_queue_is_unavailable(kafka: KafkaFixture, lane: Lane) -> None:
    assert lane in kafka.lanes
    writes = AcknowledgedWriter(
        connection=SmallQueueConnection(cluster=kafka.cluster, role=ROUTER), timeout_s=5
    )
    large = Wire(headers=(), value=bytes(4_000))
    with pytest.raises(Unavailable, match="too many records wait"):
        writes.write(Partition(LEDGER, 0), b"key", large)


def test_a_transaction_that_cannot_begin_is_unavailable(kafka: KafkaFixture, lane: Lane) -> None:
    """A transaction cannot begin before the predecessor is fenced."""
    assert lane in kafka.lanes
    writes = TransactionalProducer(
        connection=kafka.connection(ROUTER),
        instance="never-started",
        stopping=threading.Event(),
        errors=ClientErrorState(),
    )
    with pytest.raises(Unavailable, match="transaction"):
        writes.begin()


def test_a_call_of_a_fenced_client_is_abandoned(kafka: KafkaFixture, lane: Lane) -> None:
    """After the client reported a fatal error, no caller waits for its answer."""
    assert lane in kafka.lanes
    errors = ClientErrorState()
    writes = TransactionalProducer(
        connection=kafka.connection(ROUTER),
        instance="fenced",
        stopping=threading.Event(),
        errors=errors,
    )
    errors(KafkaError(KafkaError._FATAL, "another took its name", fatal=True))
    never = threading.Event()
    with pytest.raises(Fenced, match="another took its name"):
        writes._calls.make(never.wait)
    never.set()
