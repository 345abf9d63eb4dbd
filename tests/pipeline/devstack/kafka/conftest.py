"""The worker's broker, for tests of what starts brokers."""

from pathlib import Path

import pytest

from erasestream.pipeline.devstack.kafka.broker import Broker
from tests.kafka_fixture import KafkaFixture


@pytest.fixture
def broker(kafka: KafkaFixture) -> Broker:
    """Return a broker that tests leave running."""
    return kafka.broker


@pytest.fixture
def identities(kafka: KafkaFixture) -> Path:
    """Return the identities of the broker, and of a client that has no rights."""
    if not (kafka.identities / "shop.producer.crt").exists():
        kafka.authority.issue_role("shop.producer", kafka.identities)
    return kafka.identities
