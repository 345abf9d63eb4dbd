"""Health checks over HTTP, on loopback only."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from erasestream.schemas.errors import Refused

BODIES = {200: b"ok\n", 503: b"not ready\n", 404: b"no such page\n"}


class Health:
    """`/healthz` (the process is alive) and `/readyz` (it can do its work).

    They carry no customer data, so they may be without TLS.  Raises `Refused` if the port is
    taken.
    """

    def __init__(self, *, port: int, ready: Callable[[], bool]) -> None:
        checks: dict[str, Callable[[], bool]] = {"/healthz": lambda: True, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                check = checks.get(self.path)
                status = 404 if check is None else 200 if check() else 503
                body = BODIES[status]
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
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
