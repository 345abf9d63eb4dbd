"""Subscriptions that are refused or misused, and after closing."""

import shutil
from pathlib import Path

import pytest

from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.client.result_subscription import (
    ReceivingLimits,
    ResultSubscription,
)
from erasestream.topics.kafka.connection import Cluster
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.results import ResultWriter, cutout, take


def test_a_closed_subscription_is_refused(kafka: KafkaFixture, lane: Lane) -> None:
    """Closing again and late acknowledgements are not."""
    subscription = ResultSubscription(kafka.cluster, lane, group="test")
    subscription.close()
    subscription.close()
    with pytest.raises(Refused) as caught:
        subscription.poll(0.0)
    assert caught.value.code is Code.CLOSED
    assert list(subscription) == []


@pytest.mark.parametrize("group", ["", "a b", "x" * 65, "ü"])
def test_invalid_group_names_are_refused(kafka: KafkaFixture, lane: Lane, group: str) -> None:
    """No right covers such a name."""
    with pytest.raises(Refused, match="group"):
        ResultSubscription(kafka.cluster, lane, group=group)


def test_another_lanes_results_cannot_be_read(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    other = kafka.open_lane()
    shutil.copy(kafka.identities / "ca.crt", tmp_path)
    for suffix in ("crt", "key"):
        source = kafka.identities / f"{other}.consumer.{suffix}"
        shutil.copy(source, tmp_path / f"{lane}.consumer.{suffix}")
    cluster = Cluster(bootstrap_servers=(kafka.broker.bootstrap,), identities=tmp_path)
    with pytest.raises(Refused, match=ephemeral_of(lane)) as caught:
        ResultSubscription(cluster, lane, group="test")
    assert caught.value.code is Code.NOT_AUTHORIZED


def test_a_revoked_right_raises(
    kafka: KafkaFixture, lane: Lane, results: ResultSubscription, router: ResultWriter
) -> None:
    """Polling must not wait without end."""
    router.write(cutout(1))
    take(results, 1)

    def read_on() -> None:
        for _ in range(100):
            router.write(cutout(2))
            results.poll(0.2)

    with kafka.without_rights(f"{lane}.consumer"), pytest.raises(Refused) as caught:
        read_on()
    assert caught.value.code is Code.NOT_AUTHORIZED
    assert f"{lane}.consumer" in caught.value.sentence
    assert ephemeral_of(lane) in caught.value.sentence


def test_unavailable_brokers_fail_the_constructor(kafka: KafkaFixture, lane: Lane) -> None:
    """At its deadline."""
    cluster = Cluster(bootstrap_servers=("127.0.0.1:9",), identities=kafka.identities)
    with pytest.raises(Unavailable):
        ResultSubscription(cluster, lane, group="test", limits=ReceivingLimits(readiness_s=1.0))
