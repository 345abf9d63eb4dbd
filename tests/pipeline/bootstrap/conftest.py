"""Settings for a real broker and a real local bucket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.pipeline.devstack.stack_files import (
    BUCKET_HOST,
    IMAGE_BUCKET,
    VAULT_BUCKET,
    StackFiles,
)
from erasestream.pipeline.settings import (
    KafkaSettings,
    LaneSettings,
    Settings,
    StageSettings,
    StorageSettings,
)
from erasestream.schemas.ids import Lane
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT
from erasestream.topics.catalog.lane_spec import Sealing
from tests.bucket_settings import PUBLIC, PUBLIC_REPORT
from tests.kafka_fixture import PARTITIONS, SHARED, KafkaFixture


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageSettings]:
    """Run a bucket server, with tokens and keys."""
    folder = tmp_path_factory.mktemp("bucket")
    files = StackFiles(folder / "files")
    files.create_identities([Lane("unused")])
    files.create_secrets()
    files.write_bucket_settings(host=BUCKET_HOST, port=0)
    settings = BucketSettings.model_validate_json(files.bucket_settings.read_text())
    # Beside the two of the project, one that is public.
    buckets = settings.buckets | {PUBLIC: (*IMAGES, *VAULT)}
    settings = settings.model_copy(update={"buckets": buckets, "reported": {PUBLIC: PUBLIC_REPORT}})
    with BucketProcess.start(settings, folder) as server:
        yield StorageSettings(
            bucket=IMAGE_BUCKET,
            vault=VAULT_BUCKET,
            keyring=files.keyring,
            name_key=files.name_key,
            endpoint=server.endpoint,
            ca=files.identities / "ca.crt",
            tokens=files.tokens,
        )


@pytest.fixture
def settings(kafka: KafkaFixture, lane: Lane, storage: StorageSettings, tmp_path: Path) -> Settings:
    """Return settings of every stage, for one lane."""
    cluster = kafka.cluster
    return Settings(
        kafka=KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers,
            identities=cluster.identities,
            **SHARED,
        ),
        lanes={lane: LaneSettings(partitions=PARTITIONS, sealing=Sealing.ACCEPTED)},
        storage=storage,
        stage=StageSettings(instance=lane),
    )
