"""Fixtures of the client libraries."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import KEYS
from erasestream.topics.client.result_subscription import (
    ResultSubscription,
)
from tests.bucket_settings import settings_in
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.keys.key_harness import HOST
from tests.topics.client.lane_keys import LaneKeys
from tests.topics.client.results import OFTEN, ResultWriter


@pytest.fixture
def router(kafka: KafkaFixture, lane: Lane) -> ResultWriter:
    return ResultWriter(kafka, lane)


@pytest.fixture
def results(kafka: KafkaFixture, lane: Lane) -> Iterator[ResultSubscription]:
    """Subscribe as group `test`."""
    with ResultSubscription(kafka.cluster, lane, group="test", limits=OFTEN) as subscription:
        yield subscription


@pytest.fixture(scope="session")
def vault(kafka: KafkaFixture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketProcess]:
    """Run a bucket beside the broker, under the same authority."""
    settings = settings_in(kafka.identities.parent, kafka.authority)
    kafka.authority.issue_stage_server(KEYS, kafka.identities, hosts=[HOST])
    with BucketProcess.start(settings, tmp_path_factory.mktemp("vault")) as bucket:
        yield bucket


@pytest.fixture
def keys(
    kafka: KafkaFixture, lane: Lane, vault: BucketProcess, tmp_path: Path
) -> Iterator[LaneKeys]:
    """Run the key service of the lane, in a time of its own."""
    service = LaneKeys(kafka, lane, vault, tmp_path / "masters")
    service.start()
    yield service
    service.stop()
