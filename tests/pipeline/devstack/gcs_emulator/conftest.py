"""A local bucket server, and plain HTTPS to it without Google's client."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings, issue_token
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Action, Role, Rule

OPEN_RULES = (Rule(Role.ROTATOR, frozenset(Action)),)


class Served(NamedTuple):
    """A running server and how to speak to it."""

    server: BucketProcess
    settings: BucketSettings
    ca_file: Path

    def token(self, role: Role = Role.ROTATOR) -> str:
        """The role's bearer token."""
        return (self.settings.tokens / f"{role}.token").read_text()

    def call(
        self, method: str, path: str, role: Role | None = Role.ROTATOR, **options: object
    ) -> requests.Response:
        """One request, with the role's token or (None) with none."""
        headers = {"Authorization": f"Bearer {self.token(role)}"} if role else {}
        headers |= options.pop("headers", {})  # type: ignore[arg-type]
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                self.server.endpoint + path,
                headers=headers,
                verify=str(self.ca_file),
                timeout=20,
                **options,  # type: ignore[arg-type]
            )

    def context(self) -> ssl.SSLContext:
        """A TLS context that trusts the server."""
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.endpoint.rpartition(":")[2])


def settings_in(folder: Path, authority: CertificateAuthority) -> BucketSettings:
    """Settings of a server that keeps everything in `folder`."""
    authority.issue_server("bucket", folder / "identities")
    for role in Role:
        issue_token(folder / "tokens", role)
    return BucketSettings(
        host="127.0.0.1",
        port=0,
        port_file=folder / "port",
        certificate=folder / "identities" / "bucket.crt",
        key=folder / "identities" / "bucket.key",
        data=folder / "data",
        tokens=folder / "tokens",
        buckets={"images": IMAGES, "vault": VAULT, "open": OPEN_RULES},
    )


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[Served]:
    """A server that the tests of a module share."""
    folder = tmp_path_factory.mktemp("bucket")
    settings = settings_in(folder, authority)
    with BucketProcess.start(settings, folder) as server:
        yield Served(server, settings, folder / "identities" / "ca.crt")
