"""Health checks and metrics over HTTP, on loopback only."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from erasestream.pipeline.runtime.quarantine import QuarantinedPartition, metrics_text
from erasestream.schemas.errors import Refused

STAGE_HEADER = "Erasestream-Stage"
"""Carries the name of the stage, so that a probe notices when another one has its port."""


def _none() -> list[QuarantinedPartition]:
    return []


class Health:
    """`/healthz` (the process is alive), `/readyz` (it can do its work) and `/metrics`.

    `/readyz` of a stage that can work names the partitions that it does not read, one a line.
    All carry topics and numbers but no customer data, so they may be without TLS.  Raises
    `Refused` if the port is taken.
    """

    def __init__(
        self,
        *,
        port: int,
        ready: Callable[[], bool],
        stage: str = "",
        quarantined: Callable[[], list[QuarantinedPartition]] = _none,
        metrics: Callable[[], str] = str,
    ) -> None:
        """`metrics` returns the stage's own ones, in the text format of Prometheus."""

        def readyz() -> tuple[int, str]:
            if not ready():
                return 503, "not ready\n"
            return 200, "\n".join(["ok", *map(str, quarantined()), ""])

        pages: dict[str, Callable[[], tuple[int, str]]] = {
            "/healthz": lambda: (200, "ok\n"),
            "/readyz": readyz,
            "/metrics": lambda: (200, metrics_text(stage, quarantined()) + metrics()),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path)
                status, text = page() if page else (404, "no such page\n")
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header(STAGE_HEADER, stage)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing: probes come every second."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise Refused(f"health port {port}: {error.strerror}") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, daemon=True, name="health"
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and release the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
