"""The local bucket server: Cloud Storage's JSON API over TLS 1.3, strict, on a local disk.

    python -m erasestream.pipeline.devstack.gcs_emulator.server --config bucket.json

For development, tests and the demo.  There is no plaintext port, no anonymous caller and no
way to change a policy through it.  SIGTERM ends it after the requests in flight (5 s at
most).  When it serves, it writes its port into `port_file` and says so on standard output.
"""

import argparse
import asyncio
import hashlib
import os
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from pydantic import BaseModel, ConfigDict, ValidationError

from erasestream.pipeline.devstack.gcs_emulator.api import application
from erasestream.pipeline.devstack.gcs_emulator.object_files import Objects
from erasestream.pipeline.devstack.gcs_emulator.request_context import Bucket
from erasestream.schemas.errors import ErasestreamError, MissingCertificate, Refused
from erasestream.sinks.buckets.access_policy import Role, Rule

TOKEN_SUFFIX = ".token"  # noqa: S105 (a file name, no password)
SHUTDOWN_TIMEOUT_S = 5


class BucketSettings(BaseModel):
    """What the server needs; paths are as seen from its working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int
    """0 takes a free one."""
    port_file: Path
    certificate: Path
    key: Path
    data: Path
    """Folder that holds one folder per bucket."""
    tokens: Path
    """Folder that holds `<role>.token` for each role that may come."""
    buckets: dict[str, tuple[Rule, ...]]


def issue_token(directory: Path, role: Role) -> Path:
    """Make a role's bearer token, readable by its owner only, and return its file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{role}{TOKEN_SUFFIX}"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
    return path


def roles_of_tokens(directory: Path) -> Callable[[str], str | None]:
    """Which role a token belongs to.  Raises `Refused` for a file that others can read.

    Tokens are looked up by their digest, so that the time it takes tells nothing of them.
    """
    roles: dict[bytes, str] = {}
    for path in directory.glob(f"*{TOKEN_SUFFIX}"):
        if path.stat().st_mode & 0o077:
            raise Refused(f"{path.name} must have mode 0600")
        roles[_digest(path.read_text())] = path.stem
    return lambda token: roles.get(_digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _context(settings: BucketSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except FileNotFoundError:
        raise MissingCertificate("of the bucket server") from None
    return context


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End once no request is in flight; idle connections need no farewell.

        uvicorn would wait for every client's half of the TLS closing.
        """
        waiting = asyncio.create_task(self._leave_when_idle())
        await super().shutdown(sockets=sockets)
        await waiting

    async def _leave_when_idle(self) -> None:
        if requests := list(self.server_state.tasks):
            await asyncio.wait(requests, timeout=SHUTDOWN_TIMEOUT_S)
        self.force_exit = True


def serve(settings: BucketSettings) -> None:
    """Serve until SIGTERM or SIGINT.  Raises `Refused` if it can not start as it is set up."""
    context = _context(settings)
    buckets = {
        name: Bucket(name, Objects(settings.data / name, clock=_now), rules)
        for name, rules in settings.buckets.items()
    }
    app = application(
        buckets,
        role_of=roles_of_tokens(settings.tokens),
        new_id=lambda: secrets.token_urlsafe(32),
    )
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        ssl_context_factory=lambda *_: context,
    )
    with socket.create_server((settings.host, settings.port)) as listening:
        port = listening.getsockname()[1]
        server = _Server(config, lambda: _announce(settings, port))

        def end(*_: object) -> None:
            server.should_exit = True

        # uvicorn restores these and raises the signal again once it has ended: then it is no
        # more than an end, and the exit status is 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        asyncio.run(server.serve(sockets=[listening]))


def _announce(settings: BucketSettings, port: int) -> None:
    draft = settings.port_file.with_suffix(".new")
    draft.write_text(str(port))
    draft.replace(settings.port_file)
    sys.stdout.write(f"ready https://{settings.host}:{port}\n")
    sys.stdout.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the server; the exit status is 0 after SIGTERM and 2 if it could not start."""
    parser = argparse.ArgumentParser(prog="bucket", description="The local bucket server.")
    parser.add_argument("--config", type=Path, required=True, help="its settings, as JSON")
    path: Path = parser.parse_args(None if arguments is None else list(arguments)).config
    try:
        serve(BucketSettings.model_validate_json(path.read_bytes()))
    except ValidationError as error:
        sys.stderr.write(f"bucket: {error}\n")
        return 2
    except (ErasestreamError, OSError) as error:
        sys.stderr.write(f"bucket: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
