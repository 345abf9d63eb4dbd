"""A broker of these tests' own, since they need the routers' group for themselves."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.ids import Lane
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness

LANES = 24
"""At least one for each test."""


@pytest.fixture(scope="package")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    with opened_kafka(tmp_path_factory.mktemp("transaction")) as kafka:
        yield kafka


@pytest.fixture(scope="package")
def lanes(kafka: KafkaFixture) -> Iterator[Lane]:
    """Lanes that are provisioned before any member joins the group; each test takes one."""
    return iter(kafka.open_lanes(LANES))


@pytest.fixture
def lane(lanes: Iterator[Lane]) -> Lane:
    return next(lanes)


@pytest.fixture
def harness(kafka: KafkaFixture, lane: Lane) -> Iterator[KafkaRouterHarness]:
    harness = KafkaRouterHarness(kafka, lane)
    yield harness
    harness.close()
