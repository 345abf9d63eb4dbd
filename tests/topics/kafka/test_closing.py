"""Every part closes its clients and threads, also if its constructor fails half-way."""

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import ClientClosed, ErasestreamError
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, OPERATOR, ROUTER, SINK
from erasestream.topics.catalog.topic_names import LEDGER, RETAINED, consent_of, uploads_of
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.consumer import partition_reader as reader_module
from erasestream.topics.kafka.consumer import work_queue
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.consumer.partition_reader import PartitionReader
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.producer import acknowledged_writer as writer_module
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.producer.producer_pool import ProducerPool
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.leaks import (
    Closable,
    ConstructionFault,
    Resources,
    baseline,
    check_each_construction_fails,
    no_leak,
    resources,
)

WIRE = Wire(headers=[], value=b"value")
DEADLINE_S = 60.0


def append(kafka: KafkaFixture, at: Partition) -> None:
    with closing(AcknowledgedWriter(connection=kafka.connection(ADMIN), timeout_s=60)) as writer:
        writer.write(at, b"key", WIRE)


def ignore(_record: Record) -> None:
    """Apply nothing."""


def admin(kafka: KafkaFixture, _lane: Lane) -> Closable:
    made = kafka.admin
    made.partition_counts()
    return made


def compacted_view(kafka: KafkaFixture, _lane: Lane) -> Closable:
    view = CompactedView(connection=kafka.connection(OPERATOR), topics={LEDGER: 1}, apply=ignore)
    view.catch_up(view.mark(), deadline_s=DEADLINE_S)
    return view


def partition_reader(kafka: KafkaFixture, lane: Lane) -> Closable:
    reader = PartitionReader(kafka.connection(OPERATOR))
    reader.read(Partition(consent_of(lane), 0), ignore, deadline_s=DEADLINE_S)
    return reader


def record_fetcher(kafka: KafkaFixture, lane: Lane) -> Closable:
    at = Partition(uploads_of(lane), 0)
    append(kafka, at)
    fetcher = RecordFetcher(connection=kafka.connection(ROUTER))
    assert fetcher.read(at, 0)
    return fetcher


def work_queue_of_a_stage(kafka: KafkaFixture, _lane: Lane) -> Closable:
    queue = WorkQueue(connection=kafka.connection(SINK), topics=[RETAINED], instance="closing")
    queue.read(timeout_s=0.1, most=1)
    return queue


def acknowledged_writer(kafka: KafkaFixture, _lane: Lane) -> Closable:
    writer = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=DEADLINE_S)
    writer.write(Partition(LEDGER, 0), b"key", WIRE)
    return writer


def producer_pool(kafka: KafkaFixture, lane: Lane) -> Closable:
    pool = open_pool(kafka)
    pool.produce(uploads_of(lane), WIRE, lambda _error, _message: None)
    return pool


def open_pool(kafka: KafkaFixture) -> ProducerPool:
    connection, errors = kafka.connection(ADMIN), ClientErrorState()
    return ProducerPool(
        lambda: connection.settings(errors),
        delivery_s=DEADLINE_S,
        certificate=CertificateWatcher(connection.identity),
        broker_loss=BrokerLossDetector(connection, errors),
        name="pool",
    )


PARTS: dict[Callable[[KafkaFixture, Lane], Closable], int] = {
    admin: 1,
    compacted_view: 2,
    partition_reader: 2,
    record_fetcher: 2,  # with the writer of its record
    work_queue_of_a_stage: 2,
    acknowledged_writer: 1,
    producer_pool: 1,
}
"""How each part is built and used, and how many clients that constructs."""


@pytest.mark.parametrize("build", PARTS, ids=lambda build: build.__name__)
def test_nothing_stays_open(
    kafka: KafkaFixture,
    lane: Lane,
    monkeypatch: pytest.MonkeyPatch,
    build: Callable[[KafkaFixture, Lane], Closable],
) -> None:
    fault = ConstructionFault(monkeypatch, AdminClient, Consumer, Producer)
    steps = check_each_construction_fails(fault, lambda: build(kafka, lane))
    assert steps == PARTS[build]


def test_a_view_of_a_missing_topic_leaves_nothing_open(kafka: KafkaFixture) -> None:
    with no_leak(), pytest.raises(ErasestreamError):
        CompactedView(connection=kafka.connection(ADMIN), topics={"missing": 1}, apply=ignore)


def test_a_read_that_fails_leaves_nothing_open(kafka: KafkaFixture) -> None:
    with no_leak():
        reader = PartitionReader(kafka.connection(ADMIN))
        with pytest.raises(ErasestreamError):
            reader.read(Partition("missing", 0), ignore, deadline_s=DEADLINE_S)
        reader.close()


def test_a_view_given_back_after_close_is_closed(kafka: KafkaFixture, lane: Lane) -> None:
    at = Partition(consent_of(lane), 0)
    append(kafka, at)
    with no_leak():
        reader = PartitionReader(kafka.connection(ADMIN))
        reader.read(at, lambda _record: reader.close(), deadline_s=DEADLINE_S)


@pytest.mark.parametrize("build", [partition_reader, acknowledged_writer])
def test_clients_with_the_old_certificate_are_closed(
    kafka: KafkaFixture,
    lane: Lane,
    monkeypatch: pytest.MonkeyPatch,
    build: Callable[[KafkaFixture, Lane], Closable],
) -> None:
    for module in (reader_module, writer_module):
        at_every_use = partial(CertificateWatcher, look_every_s=0)
        monkeypatch.setattr(module, "CertificateWatcher", at_every_use)
    with no_leak():
        part = build(kafka, lane)
        before = baseline()
        for role in (OPERATOR, ROUTER):
            kafka.authority.issue_role(role, kafka.identities)
        use(part, lane)
        await_an_ended_thread(before)
        part.close()


def use(part: Closable, lane: Lane) -> None:
    match part:
        case PartitionReader():
            part.read(Partition(consent_of(lane), 0), ignore, deadline_s=DEADLINE_S)
        case AcknowledgedWriter():
            part.write(Partition(LEDGER, 0), b"key", WIRE)


def await_an_ended_thread(before: Resources) -> None:
    """Wait: the system lists a thread for a moment after it was joined."""
    eventually("a thread has ended", lambda: not before.threads <= resources().threads)


def test_a_queue_that_cannot_subscribe_leaves_nothing_open(
    kafka: KafkaFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsubscribable(Consumer):
        def subscribe(self, *_: Any, **__: Any) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(work_queue, "Consumer", Unsubscribable)
    with no_leak(), pytest.raises(ZeroDivisionError):
        WorkQueue(connection=kafka.connection(SINK), topics=[RETAINED], instance="closing")


def test_a_pool_without_a_thread_leaves_nothing_open(
    kafka: KafkaFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with no_leak(), monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            open_pool(kafka)


def test_a_replaced_client_of_the_pool_closes_itself(kafka: KafkaFixture, lane: Lane) -> None:
    pool = open_pool(kafka)
    delivered = threading.Semaphore(0)
    for _ in range(3):
        before = baseline()
        replaced = pool._opened[-1]
        replaced.is_broken = True  # as after a fatal error
        pool.produce(uploads_of(lane), WIRE, lambda _error, _message: delivered.release())
        assert delivered.acquire(timeout=DEADLINE_S)
        replaced._thread.join()
        assert len(pool._opened) <= 2
        await_an_ended_thread(before)
    pool.close()


def test_a_closed_pool_passes_every_outcome_on(kafka: KafkaFixture, lane: Lane) -> None:
    outcomes: list[object] = []
    with no_leak():
        pool = open_pool(kafka)
        with kafka.silence():
            for _ in range(5):
                pool.produce(uploads_of(lane), WIRE, lambda error, _message: outcomes.append(error))
            pool.close()
        assert len(outcomes) == 5
        with pytest.raises(ClientClosed):
            pool.produce(uploads_of(lane), WIRE, lambda _error, _message: None)


def test_a_closed_writer_writes_nothing(kafka: KafkaFixture) -> None:
    with no_leak():
        writer = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=1)
        writer.close()
        writer.close()
        with pytest.raises(ClientClosed):
            writer.write(Partition(LEDGER, 0), b"key", WIRE)
