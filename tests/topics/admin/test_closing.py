"""Admin tools close everything, also when their constructors fail half-way."""

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.record_purge import RecordPurger
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ADMIN, PURGER
from tests.kafka_fixture import KafkaFixture
from tests.leaks import ConstructionFault, check_each_construction_fails


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> ConstructionFault:
    return ConstructionFault(monkeypatch, AdminClient, Consumer, Producer)


def test_a_recovery_closes_what_it_opened(
    kafka: KafkaFixture, lane: Lane, fault: ConstructionFault
) -> None:
    catalog = kafka.catalog_of(lane)
    failed = check_each_construction_fails(
        fault,
        lambda: RouterRecovery(
            connection=kafka.connection(ADMIN), catalog=catalog, actor="operator:test"
        ),
    )
    assert failed == 4


def test_a_purger_closes_what_it_opened(
    kafka: KafkaFixture, lane: Lane, fault: ConstructionFault
) -> None:
    catalog = kafka.catalog_of(lane)

    def open_used_purger() -> RecordPurger:
        purger = RecordPurger(
            connection=kafka.connection(PURGER), catalog=catalog, listener=QuarantineRegistry()
        )
        try:
            purger.purge_once()
        except BaseException:
            purger.close()
            raise
        return purger

    assert check_each_construction_fails(fault, open_used_purger) >= 2
