"""A lane with a loop on a real broker."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.ids import Lane
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.topics.kafka.transaction.loop_harness import LoopHarness


@pytest.fixture
def harness(kafka: KafkaFixture, lane: Lane) -> Iterator[KafkaRouterHarness]:
    harness = KafkaRouterHarness(kafka, lane)
    yield harness
    harness.close()


@pytest.fixture
def scripted(kafka: KafkaFixture, lane: Lane) -> Iterator[LoopHarness]:
    harness = LoopHarness(kafka, lane)
    yield harness
    harness.close()
