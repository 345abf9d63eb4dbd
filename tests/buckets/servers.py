"""Servers that the contract is run against, each with two buckets.

`plain` is private and forgets; `keeping` has versioning, soft delete, a retention policy of one
second, and a lifecycle rule.  On Cloud Storage both exist already: `docs/cloud-storage.md` has the
commands that create them.
"""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.configuration import ReportedConfiguration
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.sinks.buckets.access_policy import Role
from tests.bucket_settings import OPEN_RULES, settings_in
from tests.buckets.tools import fake_gcs_server, gcp_storage_emulator
from tests.flow.waiting import eventually

SERVER_VARIABLE = "ERASESTREAM_CONTRACT_SERVER"
BUCKETS_VARIABLE = "ERASESTREAM_CONTRACT_BUCKETS"
LOCAL, FAKE, PYTHON, GOOGLE = "local", "fake-gcs-server", "gcp-storage-emulator", "google"
PLAIN, KEEPING = "plain", "keeping"

KEPT_S, LIFECYCLE_DAYS = 604_800, 30

EMULATORS = (LOCAL, FAKE, PYTHON)


class Server(NamedTuple):
    """A running server, the real client of it, and the names of its two buckets."""

    name: str
    client: storage.Client
    plain: str
    keeping: str

    @property
    def endpoint(self) -> str:
        """Its address."""
        return str(self.client._connection.API_BASE_URL)

    def anonymous(self) -> requests.Session:
        """Return a session that trusts the server and has no credentials."""
        session = requests.Session()
        session.trust_env = False
        session.verify = self.client._http.verify
        return session


def chosen() -> str:
    """Return the name of the server that this run is about."""
    return os.environ.get(SERVER_VARIABLE, LOCAL)


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Run the chosen server."""
    with _SERVERS[chosen()](folder) as server:
        yield server


@contextmanager
def _local(folder: Path) -> Iterator[Server]:
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    settings = settings_in(folder, authority)
    keeping = ReportedConfiguration(
        members={
            "versioning": {"enabled": True},
            "softDeletePolicy": {"retentionDurationSeconds": str(KEPT_S)},
            "retentionPolicy": {"retentionPeriod": "1"},
            "lifecycle": {
                "rule": [{"action": {"type": "Delete"}, "condition": {"age": LIFECYCLE_DAYS}}]
            },
        }
    )
    settings = settings.model_copy(
        update={
            "buckets": {PLAIN: OPEN_RULES, KEEPING: OPEN_RULES},
            "reported": {KEEPING: keeping},
        }
    )
    token = (settings.tokens / f"{Role.ROTATOR}.token").read_text()
    with BucketProcess.start(settings, folder) as process:
        client = _client(process.endpoint, {"Authorization": f"Bearer {token}"})
        client._http.verify = str(folder / "identities" / "ca.crt")
        yield Server(LOCAL, client, PLAIN, KEEPING)


@contextmanager
def _fake(folder: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    program = [str(fake_gcs_server()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    options = ["-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with _emulator(FAKE, [*program, *options], port, folder) as server:
        yield server


@contextmanager
def _python(folder: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    program = [str(gcp_storage_emulator()), "start", "--host", "127.0.0.1", "--port", str(port)]
    with _emulator(PYTHON, [*program, "--in-memory"], port, folder) as server:
        yield server


@contextmanager
def _google(_: Path) -> Iterator[Server]:
    plain, keeping = os.environ[BUCKETS_VARIABLE].split(",")
    yield Server(GOOGLE, storage.Client(), plain, keeping)


_SERVERS: dict[str, Callable[..., object]] = {
    LOCAL: _local,
    FAKE: _fake,
    PYTHON: _python,
    GOOGLE: _google,
}


@contextmanager
def _emulator(name: str, command: list[str], port: int, folder: Path) -> Iterator[Server]:
    """Run a server of others on loopback, and create both buckets."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        eventually(f"{name} listens", lambda: _listens(port))
        client = _client(f"http://127.0.0.1:{port}", {})
        _create_buckets(client)
        yield Server(name, client, PLAIN, KEEPING)
    finally:
        process.terminate()
        process.wait()


def _create_buckets(client: storage.Client) -> None:
    plain = client.bucket(PLAIN)
    plain.iam_configuration.public_access_prevention = "enforced"
    plain.iam_configuration.uniform_bucket_level_access_enabled = True
    plain.soft_delete_policy.retention_duration_seconds = 0
    client.create_bucket(plain, retry=None)
    bucket = client.bucket(KEEPING)
    bucket.versioning_enabled = True
    bucket.soft_delete_policy.retention_duration_seconds = KEPT_S
    bucket.retention_period = 1
    bucket.add_lifecycle_delete_rule(age=LIFECYCLE_DAYS)
    client.create_bucket(bucket, retry=None)


def _client(endpoint: str, headers: dict[str, str]) -> storage.Client:
    client = storage.Client(
        project="contract",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": endpoint},
        extra_headers=headers,
    )
    client._http.trust_env = False
    client._bucket_metadata_cache = None
    return client


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
