"""Clients while their only broker restarts, in a broker of its own: the worker's has many lanes."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import OPERATOR, ROUTER
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.client import result_reader, upload_sender
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.pictures import photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.topics.client.results import ResultWriter, committed, cutout, poll_until, take, upload_id

RESTARTS = 3


class FrequentMetadata(Connection):
    """Its clients request metadata all the time, also while a broker stops or starts.

    Several clients every 50 ms: each stop and each start takes a second or more.
    """

    def settings(self, errors: ClientErrorState, **more: object) -> Settings:
        return super().settings(errors, **more) | {"topic.metadata.refresh.interval.ms": 50}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """Run a broker for this module, whose tests restart it."""
    with opened_kafka(tmp_path_factory.mktemp("broker-loss"), spare_lanes=2) as kafka:
        kafka.open_lane()  # with the roles that all lanes share
        yield kafka


def test_unavailable_brokers_are_waited_for(
    kafka: KafkaFixture,
    lane: Lane,
    results: ResultSubscription,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A restart of the broker ends nothing and is logged once; results are delivered afterwards.

    Once per outage: a broker that has just started may be unavailable again.

    """
    ResultWriter(kafka, lane).write(cutout(1))
    take(results, 1)[0].ack()
    poll_until(results, lambda: committed(kafka, lane) == 1)
    kafka.broker.stop()
    try:
        for _ in range(15):
            assert results.poll(0.2) is None
        assert [record.message for record in caplog.records].count("broker_trouble") <= 1
    finally:
        kafka.broker.start()
    ResultWriter(kafka, lane).write(cutout(2))
    (delivery,) = take(results, 1)
    assert delivery.event.id == upload_id(2)
    events = ("broker_trouble", "broker_back")
    logged = [record.message for record in caplog.records if record.message in events]
    assert logged
    assert logged == [events[n % 2] for n in range(len(logged))]


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
