"""The server's port, tokens and process."""

import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erasestream.pipeline.devstack.gcs_emulator.authentication import issue_token
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.schemas.errors import Refused
from erasestream.sinks.buckets.access_policy import Role
from tests.pipeline.devstack.gcs_emulator.conftest import OBJECTS


@pytest.mark.parametrize("path", ["/", OBJECTS, f"{OBJECTS}/x?alt=media", "/storage/v1/b/open"])
@pytest.mark.parametrize("authorization", ["", "Bearer guess", "Basic x", "Bearer"])
def test_anonymous_requests_are_refused(served: Any, path: str, authorization: str) -> None:
    """Without a known token every path answers 401, even those that do not exist."""
    headers = {"Authorization": authorization} if authorization else {}
    assert served.call("GET", path, None, headers=headers).status_code == 401


def test_tls_below_1_3_and_plaintext_are_refused(served: Any) -> None:
    context = served.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", served.port), 5) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", served.port), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in raw.recv(100)


def test_token_files_are_private(served: Any, tmp_path: Path) -> None:
    """Tokens are random and readable by their owner only; a server refuses others."""
    files = list(served.settings.tokens.glob("*.token"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len({path.read_text() for path in files}) == len(files) == len(Role)
    issue_token(tmp_path / "tokens", Role.SINK).chmod(0o644)
    settings = served.settings.model_copy(
        update={
            "tokens": tmp_path / "tokens",
            "port_file": tmp_path / "port",
            "data": tmp_path / "data",
        }
    )
    with pytest.raises(Refused, match="0600"):
        BucketProcess.start(settings, tmp_path)


def test_sigterm_ends_it_with_status_0(served: Any, tmp_path: Path) -> None:
    """The module runs by itself, announces that it is ready, and exits with 0."""
    settings = served.settings.model_copy(
        update={"port_file": tmp_path / "port", "data": tmp_path / "data"}
    )
    config = tmp_path / "bucket.json"
    config.write_text(settings.model_dump_json())
    assert BucketSettings.model_validate_json(config.read_text()) == settings
    command = [
        sys.executable,
        "-m",
        "erasestream.pipeline.devstack.gcs_emulator.server",
        "--config",
        config,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready == f"ready https://127.0.0.1:{(tmp_path / 'port').read_text()}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_server_without_its_certificate_does_not_start_and_names_it(
    served: Any, tmp_path: Path
) -> None:
    settings = served.settings.model_copy(
        update={"key": tmp_path / "none.key", "port_file": tmp_path / "port"}
    )
    with pytest.raises(Refused, match="missing_certificate"):
        BucketProcess.start(settings, tmp_path)
