"""A view loads for as long as it makes progress, and survives a renewed certificate."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from erasestream.schemas.clocks import Clock
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.consumer import assigned_consumer, compacted_view
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, load
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture

COUNT = 300


@pytest.fixture
def at(lane: Lane) -> Partition:
    return Partition(consent_of(lane), 0)


@pytest.fixture
def records() -> list[Record]:
    return []


@pytest.fixture
def view(kafka: KafkaFixture, at: Partition, records: list[Record]) -> Iterator[CompactedView]:
    view = CompactedView(
        connection=kafka.connection(ROUTER),
        topics={at.topic: at.number + 1},
        apply=records.append,
    )
    with closing(view):
        yield view


def write(kafka: KafkaFixture, lane: Lane, at: Partition, count: int) -> None:
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    with closing(AcknowledgedWriter(connection=connection, timeout_s=30)) as writes:
        wire = Wire(headers=[], value=b"?")
        answers = writes.write_all([(at, b"acct-%d" % number, wire) for number in range(count)])
        assert all(answer.result() for answer in answers)


def test_it_loads_for_as_long_as_it_makes_progress(
    kafka: KafkaFixture,
    lane: Lane,
    at: Partition,
    view: CompactedView,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many deadlines pass meanwhile: here one with each read."""

    class PassesWithARead:
        def __init__(self, _seconds: float, _clock: Clock) -> None:
            self._before = len(records)

        @property
        def has_passed(self) -> bool:
            return len(records) > self._before

    write(kafka, lane, at, COUNT)
    monkeypatch.setattr(compacted_view, "Deadline", PassesWithARead)
    monkeypatch.setattr(assigned_consumer, "MAX_READ", 10)
    load(view, [at], silence_s=20)
    assert [record.offset for record in records] == list(range(COUNT))


def test_a_renewed_certificate_replaces_the_client_and_nothing_is_read_again(
    kafka: KafkaFixture, lane: Lane, at: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_every_read = partial(CertificateWatcher, look_every_s=0)
    monkeypatch.setattr(assigned_consumer, "CertificateWatcher", at_every_read)
    made: list[object] = []

    class CountedConsumer(assigned_consumer.Consumer):  # type: ignore[misc]
        def __init__(self, settings: object) -> None:
            made.append(self)
            super().__init__(settings)

    monkeypatch.setattr(assigned_consumer, "Consumer", CountedConsumer)
    records: list[Record] = []
    view = CompactedView(
        connection=kafka.connection(ROUTER), topics={at.topic: 1}, apply=records.append
    )
    with closing(view):
        write(kafka, lane, at, 3)
        load(view, [at], silence_s=20)
        kafka.authority.issue_role(ROUTER, kafka.identities)
        view.advance()
        assert len(made) == 2
        write(kafka, lane, at, 3)
        eventually("it reads on", lambda: view.advance() or view.applied[at] == 6)
    assert [record.offset for record in records] == list(range(6))
    assert len(made) == 2
