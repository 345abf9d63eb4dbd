"""A local bucket server with the project's own policy, and stores for each role."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.schemas.errors import Code, ErasestreamError
from erasestream.schemas.ids import GrantId
from erasestream.schemas.sealing.envelope import MAX_SEALED_BYTES
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GcsSettings
from erasestream.sinks.keys.local_keyring import LocalKeyring
from tests.bucket_settings import settings_in
from tests.sinks.retention_harness import ManualClock, RetentionHarness


class Stack(NamedTuple):
    """A running server and what its clients need."""

    server: BucketProcess
    settings: BucketSettings
    ca_file: Path

    def store(self, bucket: str, role: Role) -> GcsObjectStore:
        """Return a bucket as a role, through the real client."""
        return GcsObjectStore(
            GcsSettings(
                bucket=bucket,
                max_object_bytes=MAX_SEALED_BYTES,
                endpoint=self.server.endpoint,
                ca_file=self.ca_file,
                token_file=self.settings.tokens / f"{role}.token",
            )
        )


def code_of(action: Callable[[], object]) -> Code | None:
    """Return the code of the error that an action raises, if any."""
    try:
        action()
    except ErasestreamError as error:
        return error.code
    return None


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    folder = tmp_path_factory.mktemp("ca") / "authority"
    return CertificateAuthority.create(folder, now=lambda: datetime.now(UTC))


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[Stack]:
    """Run a server that all tests share; each test uses names of its own."""
    folder = tmp_path_factory.mktemp("bucket")
    settings = settings_in(folder, authority)
    with BucketProcess.start(settings, folder) as server:
        yield Stack(server, settings, folder / "identities" / "ca.crt")
        assert server.stop() == 0


@pytest.fixture
def launch(tmp_path: Path, authority: CertificateAuthority) -> Iterator[Callable[[], Stack]]:
    """Start, or start again, a server of this test's own."""
    running: list[BucketProcess] = []

    def start() -> Stack:
        folder = tmp_path / "own"
        settings = settings_in(folder, authority)
        running.append(BucketProcess.start(settings, folder))
        return Stack(running[-1], settings, folder / "identities" / "ca.crt")

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def harness(stack: Stack, tmp_path: Path) -> RetentionHarness:
    """Shared buckets; grants, and therefore keys and objects, are of this test only."""
    return RetentionHarness(stack, LocalKeyring.create(tmp_path / "master"), ManualClock())


@pytest.fixture
def grant() -> GrantId:
    return GrantId(str(uuid.uuid4()))
