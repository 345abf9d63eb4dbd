"""Readers, writers and views of consent close everything, also when they fail half-way."""

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ERASER, OPERATOR, ROUTER, LaneRole, lane_role
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.consent.writer import ConsentWriter
from tests.kafka_fixture import KafkaFixture
from tests.leaks import Closable, ConstructionFault, check_each_construction_fails, no_leak
from tests.topics.consent.consent_harness import OWNER, ledger_partitions, writer


def open_reader(kafka: KafkaFixture, lane: Lane) -> ConsentReader:
    return ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)


def open_writer(kafka: KafkaFixture, lane: Lane) -> ConsentWriter:
    return ConsentWriter(connection=kafka.connection(lane_role(lane, LaneRole.ACCOUNT)), lane=lane)


def open_view(kafka: KafkaFixture, lane: Lane) -> ConsentView:
    return ConsentView(connection=kafka.connection(ROUTER), catalog=kafka.catalog(), lanes=(lane,))


def open_ledger_view(kafka: KafkaFixture, lane: Lane) -> LedgerView:
    partitions = ledger_partitions(kafka, lane)
    return LedgerView(connection=kafka.connection(ERASER), partitions=partitions)


@pytest.mark.parametrize(
    ("open_part", "constructions"),
    [(open_reader, 3), (open_writer, 4), (open_view, 2), (open_ledger_view, 2)],
)
def test_a_constructor_that_fails_closes_what_it_opened(
    kafka: KafkaFixture,
    lane: Lane,
    monkeypatch: pytest.MonkeyPatch,
    open_part: Callable[[KafkaFixture, Lane], Closable],
    constructions: int,
) -> None:
    fault = ConstructionFault(monkeypatch, AdminClient, Consumer, Producer)
    failed = check_each_construction_fails(fault, lambda: open_part(kafka, lane))
    assert failed == constructions


def test_a_used_writer_is_closed(kafka: KafkaFixture, lane: Lane) -> None:
    with no_leak():
        opened = writer(kafka, lane)
        opened.grant("acct", **OWNER)
        assert opened.reader.active_grant("acct")
        opened.close()
        opened.close()
