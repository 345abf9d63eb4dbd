"""Keyrings of both kinds, for the same tests."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.sinks.keys.cloud_kms_keyring import CloudKmsKeyring
from erasestream.sinks.keys.keyring import VERSIONS_AGE_S, Keyring
from erasestream.sinks.keys.local_keyring import LocalKeyring
from tests.kms.server import DAY, LocalKms, local_kms
from tests.sinks.retention_harness import ManualClock

_numbers = count(1)


@pytest.fixture(scope="session")
def kms(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[LocalKms]:
    """Run a server that all tests share; each has keys of its own."""
    folder = tmp_path_factory.mktemp("kms")
    authority.issue_server("kms", folder)
    with local_kms(folder) as running:
        yield running


@pytest.fixture
def kms_key(kms: LocalKms) -> Iterator[str]:
    """Return a key of this test; undo afterwards how the test broke the server."""
    before, after = kms.server.before, kms.server.after
    yield kms.server.create_key(f"grants-{next(_numbers)}")
    kms.server.before, kms.server.after = before, after


class Opened(NamedTuple):
    """A keyring of a test, and what the world around it does."""

    keyring: Keyring
    other: Keyring
    """The same keyring, of another process."""
    pass_time: Callable[[timedelta], None]


@pytest.fixture(params=["local", "kms"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Open a new keyring of either kind."""
    if request.param == "local":
        keyring = LocalKeyring.create(tmp_path / "master")
        yield Opened(keyring, LocalKeyring(tmp_path / "master"), lambda _time: None)
        return
    kms: LocalKms = request.getfixturevalue("kms")
    settings = kms.settings(request.getfixturevalue("kms_key"), "rotator")
    clock = ManualClock()

    def pass_time(time: timedelta) -> None:
        clock.now += time.total_seconds()
        kms.server.now += time

    with (
        closing(CloudKmsKeyring(settings, clock=clock)) as keyring,
        closing(CloudKmsKeyring(settings, clock=clock)) as other,
    ):
        yield Opened(keyring, other, pass_time)


__all__ = ["DAY", "VERSIONS_AGE_S", "Opened"]
