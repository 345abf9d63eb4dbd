"""Threads, sockets and files of a loop are closed, also when it cannot be built or started."""

import threading

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Outgoing, Partition
from erasestream.topics.kafka.transaction.abandonable_calls import AbandonableExecutor
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.producer import TransactionalProducer
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.leaks import ConstructionFault, check_each_construction_fails, no_leak
from tests.topics.kafka.transaction.copy_handler import CopyHandler


def new_loop(kafka: KafkaFixture, lane: Lane, stopping: threading.Event) -> TransactionalLoop:
    return TransactionalLoop(
        connection=kafka.connection(ROUTER),
        topics=[cutouts_of(lane)],
        instance=f"closing-{lane}",
        handler=CopyHandler(ephemeral_of(lane)),
        stopping=stopping,
        listener=QuarantineRegistry(),
    )


def test_a_constructor_that_fails_closes_what_it_opened(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ConstructionFault(monkeypatch, AdminClient, Consumer, Producer)
    failed = check_each_construction_fails(fault, lambda: new_loop(kafka, lane, threading.Event()))
    assert failed >= 3


def test_a_start_that_fails_closes_everything(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise Unavailable("on purpose")

    with no_leak():
        loop = new_loop(kafka, lane, threading.Event())
        monkeypatch.setattr(loop._clients.producer, "start", fail)
        with pytest.raises(Unavailable):
            loop.start()


def test_a_loop_that_has_read_is_closed(kafka: KafkaFixture, lane: Lane) -> None:
    with no_leak():
        loop = new_loop(kafka, lane, threading.Event())
        loop.start()

        def is_assigned() -> bool:
            loop.run_once()
            return loop.is_assigned

        eventually("it is assigned", is_assigned, poll_s=0)
        loop.close()
        loop.close()


def test_a_call_that_does_not_return_is_abandoned() -> None:
    returns = threading.Event()
    with no_leak():
        executor = AbandonableExecutor("test")
        executor.submit(returns.wait)
        assert not executor.close(0.01)
        returns.set()
    assert executor.close(10)


def test_an_open_transaction_does_not_keep_a_producer_open(kafka: KafkaFixture, lane: Lane) -> None:
    with no_leak():
        producer = TransactionalProducer(
            connection=kafka.connection(ROUTER),
            instance=f"closing-{lane}",
            stopping=threading.Event(),
            errors=ClientErrorState(),
        )
        producer.start()
        producer.begin()
        at = Partition(ephemeral_of(lane), 0)
        producer.write(Outgoing(*at, None, [], b"never sent"), source=at)
        producer.close()
