"""Certificates of every role, and a vault for each test."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.topics.catalog.roles import KEYS
from tests.bucket_settings import settings_in
from tests.pipeline.stages.keys.key_harness import HOST, ROLES, KeyHarness, new_time


@pytest.fixture(scope="session")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, CertificateAuthority]:
    """Return a folder with a certificate of every role."""
    folder = tmp_path_factory.mktemp("keys")
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    for role in ROLES:
        authority.issue_role(role, folder / "identities")
    authority.issue_stage_server(KEYS, folder / "identities", hosts=[HOST])
    return folder, authority


@pytest.fixture(scope="session")
def bucket_settings(servers: tuple[Path, CertificateAuthority]) -> BucketSettings:
    """Return settings of a bucket with a token for each role."""
    return settings_in(*servers)


@pytest.fixture(scope="session")
def bucket(
    bucket_settings: BucketSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BucketProcess]:
    """Run a bucket that all tests share: each has a time of its own, and so other epochs."""
    with BucketProcess.start(bucket_settings, tmp_path_factory.mktemp("bucket")) as shared:
        yield shared


@pytest.fixture
def harness(
    servers: tuple[Path, CertificateAuthority], bucket: BucketProcess, tmp_path: Path
) -> Iterator[KeyHarness]:
    """Yield an empty vault; its replicas are closed after the test."""
    made = KeyHarness(servers[0], tmp_path / "masters", bucket, new_time())
    store = made.store()
    for found in list(store.list("")):
        store.delete(found.name)
    yield made
    for replica in made.replicas:
        replica.stage.close()
