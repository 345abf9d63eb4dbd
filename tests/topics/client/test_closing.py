"""Client libraries close everything, also when their constructors fail half-way."""

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.kafka_fixture import KafkaFixture
from tests.leaks import ConstructionFault, check_each_construction_fails, no_leak
from tests.topics.client.results import ResultWriter, cutout, take
from tests.topics.client.uploads import PNG, TIMEOUT_S


def test_a_producer_that_fails_to_open_closes_what_it_opened(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ConstructionFault(monkeypatch, AdminClient, Producer)
    failed = check_each_construction_fails(
        fault, lambda: UploadProducer(kafka.cluster, lane, sealed=False)
    )
    assert failed == 2


def test_a_subscription_that_fails_to_open_closes_what_it_opened(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ConstructionFault(monkeypatch, AdminClient, Consumer)
    failed = check_each_construction_fails(
        fault, lambda: ResultSubscription(kafka.cluster, lane, group="test")
    )
    assert failed == 2


def test_a_used_producer_is_closed(kafka: KafkaFixture, lane: Lane) -> None:
    with no_leak(), UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        producer.send(PNG, account="acct").result(TIMEOUT_S)


def test_a_used_subscription_is_closed(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    router.write(cutout(1))
    with no_leak(), ResultSubscription(kafka.cluster, lane, group="test") as results:
        take(results, 1)[0].ack()
