"""A vault in a folder, and keyrings of both kinds."""

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.sinks.buckets.folder_store import FolderStore
from erasestream.sinks.keys.cloud_kms_keyring import CloudKmsKeyring
from erasestream.sinks.keys.local_keyring import LocalKeyring
from tests.kms.server import LocalKms, local_kms
from tests.pipeline.stages.rotation.rotation_harness import RotationHarness
from tests.sinks.retention_harness import ManualClock


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKms]:
    folder = tmp_path_factory.mktemp("kms")
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    authority.issue_server("kms", folder)
    with local_kms(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: the machine does not crash here."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def files(tmp_path: Path) -> RotationHarness:
    """Return a vault whose master key is a folder of files."""
    keyring = LocalKeyring.create(tmp_path / "master")
    harness = RotationHarness(FolderStore(tmp_path / "vault"), keyring, lambda _time: None)
    harness.now = datetime.now(UTC)  # that of the files
    return harness


@pytest.fixture
def cloud(kms: LocalKms, tmp_path: Path) -> Iterator[RotationHarness]:
    """Return a vault whose master key is in Cloud KMS."""
    key = kms.server.create_key(tmp_path.name)
    clock = ManualClock()

    def pass_time(time: timedelta) -> None:
        clock.now += time.total_seconds()
        kms.server.now += time

    with closing(CloudKmsKeyring(kms.settings(key, "rotator"), clock=clock)) as keyring:
        harness = RotationHarness(FolderStore(tmp_path / "vault"), keyring, pass_time)
        harness.now = kms.server.now
        yield harness


@pytest.fixture(params=["files", "cloud"])
def harness(request: pytest.FixtureRequest) -> RotationHarness:
    return request.getfixturevalue(request.param)
