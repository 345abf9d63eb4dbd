"""Fixtures of the client libraries."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_subscription import (
    ResultSubscription,
)
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.results import OFTEN, ResultWriter


@pytest.fixture
def router(kafka: KafkaFixture, lane: Lane) -> ResultWriter:
    return ResultWriter(kafka, lane)


@pytest.fixture
def results(kafka: KafkaFixture, lane: Lane) -> Iterator[ResultSubscription]:
    """Subscribe as group `test`."""
    with ResultSubscription(kafka.cluster, lane, group="test", limits=OFTEN) as subscription:
        yield subscription
