"""A local bucket server, and plain HTTPS to it without Google's client."""

import json
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import requests

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.sinks.buckets.access_policy import Role
from tests.bucket_settings import settings_in

UPLOAD = "/upload/storage/v1/b/open/o"
OBJECTS = "/storage/v1/b/open/o"


class Served(NamedTuple):
    """A running server and how to reach it."""

    server: BucketProcess
    settings: BucketSettings
    ca_file: Path

    def token(self, role: Role = Role.ROTATOR) -> str:
        return (self.settings.tokens / f"{role}.token").read_text()

    def call(
        self, method: str, path: str, role: Role | None = Role.ROTATOR, **options: object
    ) -> requests.Response:
        """Send one request, with the role's token or (None) without."""
        headers = {"Authorization": f"Bearer {self.token(role)}"} if role else {}
        headers |= options.pop("headers", {})  # type: ignore[arg-type]
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                self.server.endpoint + path,
                headers=headers,
                verify=str(self.ca_file),
                **{"timeout": 20, **options},  # type: ignore[arg-type]
            )

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.server.endpoint.rpartition(":")[2])


def multipart(name: str, data: bytes, **metadata: str) -> dict[str, Any]:
    """Return body and headers of a multipart upload, as the client writes them."""
    document = json.dumps({"name": name, **metadata}).encode()
    body = (
        b"--==B==\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n"
        + document
        + b"\r\n--==B==\r\ncontent-type: text/plain\r\n\r\n"
        + data
        + b"\r\n--==B==--"
    )
    headers = {"content-type": 'multipart/related; boundary="==B=="'}
    return {"data": body, "headers": headers}


def put(served: Any, name: str, data: bytes = b"x", query: str = "", **options: Any) -> Any:
    """Upload an object in one request."""
    role = options.pop("role", Role.ROTATOR)
    bucket = options.pop("bucket", "open")
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{query}"
    return served.call("POST", path, role, **multipart(name, data, **options))


def exists(served: Any, name: str) -> bool:
    return bool(served.call("GET", f"{OBJECTS}/{quote(name, safe='')}").status_code == 200)


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[Served]:
    """Run a server that all tests share; each uses names of its own."""
    folder = tmp_path_factory.mktemp("bucket")
    settings = settings_in(folder, authority)
    with BucketProcess.start(settings, folder) as server:
        yield Served(server, settings, folder / "identities" / "ca.crt")


@pytest.fixture
def name() -> str:
    """Return a name that no other test uses."""
    return f"test/{uuid.uuid4()}"
