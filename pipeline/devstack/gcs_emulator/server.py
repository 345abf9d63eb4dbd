"""The local bucket server: Cloud Storage's JSON API over TLS 1.3, strict, on a local disk.

    python -m erasestream.pipeline.devstack.gcs_emulator.server --config bucket.json

For development, tests and the demo.  It has no plaintext port and no anonymous access, and no
request changes a policy.  SIGTERM ends it after the requests in flight (5 s at most).  Once it
is ready, it writes its port to `port_file` and its address to standard output.
"""

import argparse
import asyncio
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from erasestream.pipeline.devstack.gcs_emulator.api import application
from erasestream.pipeline.devstack.gcs_emulator.authentication import load_tokens
from erasestream.pipeline.devstack.gcs_emulator.configuration import ReportedConfiguration
from erasestream.pipeline.devstack.gcs_emulator.faults import TRANSPORT, FaultFile
from erasestream.pipeline.devstack.gcs_emulator.object_files import ObjectFiles
from erasestream.pipeline.devstack.gcs_emulator.request_context import Bucket
from erasestream.pipeline.runtime.memory_protection import forbid_core_dumps
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.errors import ErasestreamError, MissingCertificate
from erasestream.sinks.buckets.access_policy import Rule

SHUTDOWN_TIMEOUT_S = 5
IDLE_TIMEOUT_S = 240
"""Until an idle connection is closed.  A client whose request crosses with that sees a failure, so
it is as rare as with Cloud Storage, and not after the 5 s after which caches of keys expire."""


class BucketSettings(BaseModel):
    """Settings of the server; paths are relative to its working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int
    """0: any free port."""
    port_file: Path
    certificate: Path
    key: Path
    data: Path
    """Folder with one folder per bucket."""
    tokens: Path
    """Folder with `<role>.token` for each role that has access."""
    buckets: dict[str, tuple[Rule, ...]]
    reported: dict[str, ReportedConfiguration] = {}
    """Configuration of the buckets that do not report a private one."""
    faults: Path | None = None
    """File of the faults that are switched on (`faults.py`); None: no faults."""


def _context(settings: BucketSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except FileNotFoundError:
        raise MissingCertificate("of the bucket server") from None
    return context


class _Protocol(H11Protocol):
    """HTTP whose requests know their connection's transport, so that a fault can close it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app: ASGIApp = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, TRANSPORT: self.transport}, receive, send)

        self.app = with_transport


class _Server(uvicorn.Server):
    """A server that announces when it is ready, and ends without waiting for idle connections."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce it."""
        await super().startup(sockets=sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End once no request is in flight; idle connections are dropped.

        uvicorn would wait for every client's half of the TLS shutdown.
        """
        waiting = asyncio.create_task(self._exit_when_idle())
        await super().shutdown(sockets=sockets)
        await waiting

    async def _exit_when_idle(self) -> None:
        if requests := list(self.server_state.tasks):
            await asyncio.wait(requests, timeout=SHUTDOWN_TIMEOUT_S)
        self.force_exit = True


def serve(settings: BucketSettings) -> None:
    """Serve until SIGTERM or SIGINT.  Raises `Refused` if it cannot start."""
    context = _context(settings)
    buckets = {
        name: Bucket(
            name,
            ObjectFiles(settings.data / name, now=utc_now),
            rules,
            settings.reported.get(name, ReportedConfiguration()),
        )
        for name, rules in settings.buckets.items()
    }
    faults = FaultFile(settings.faults) if settings.faults else None
    app = application(buckets, role_of=load_tokens(settings.tokens), faults=faults)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_TIMEOUT_S,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        ssl_context_factory=lambda *_: context,
    )
    with socket.create_server((settings.host, settings.port)) as listening:
        # Connections inherit it.  asyncio sets it only on sockets that name TCP as their protocol;
        # without it the body of every short answer follows its head 40 ms later.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listening.getsockname()[1]
        server = _Server(config, lambda: _announce(settings, port))

        def end(*_: object) -> None:
            server.should_exit = True

        # uvicorn restores these handlers and raises the signal again once it has ended: by then
        # nothing is left to end, and the exit status is 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        asyncio.run(server.serve(sockets=[listening]))


def _announce(settings: BucketSettings, port: int) -> None:
    draft = settings.port_file.with_suffix(".new")
    draft.write_text(str(port))
    draft.replace(settings.port_file)
    sys.stdout.write(f"ready https://{settings.host}:{port}\n")
    sys.stdout.flush()


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the server; the exit status is 0 after SIGTERM and 2 if it cannot start."""
    forbid_core_dumps()
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
