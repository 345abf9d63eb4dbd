"""What a stage says of itself: a log line per event, and whether it lives and is ready.

A line is an event name and fields from an allow-list; anything else is dropped before it
is written, so that no pixel, account or key can reach a log by accident.  Tracebacks carry
the code and the place, not the values.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIELDS = (
    "stage", "instance", "code", "reason", "topic", "partition", "offset", "count", "port",
    "lane", "model", "children", "seconds", "event",
)  # fmt: skip


class JsonLines(logging.Formatter):
    """One JSON object a line, with the allowed fields only."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.msg if record.name.startswith("erasestream") else "library",
            "logger": record.name,
        }
        line |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            line["error"] = str(getattr(error, "code", type(error).__name__))
            line["where"] = f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
        return json.dumps(line, default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all log lines of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("erasestream").setLevel(level)


class Health:
    """`/healthz` (the process turns) and `/readyz` (it can do its work), on loopback only.

    They carry nothing of a customer, which is why they may be without TLS.
    """

    def __init__(self, *, port: int, ready: Callable[[], bool]) -> None:
        health = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = {"/healthz": health.alive, "/readyz": ready}
                check = known.get(self.path)
                status = 404 if check is None else 200 if check() else 503
                body = {200: b"ok\n", 503: b"not ready\n", 404: b"no such page\n"}[status]
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing: probes come every second."""

        self.alive: Callable[[], bool] = lambda: True
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True, name="health").start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
