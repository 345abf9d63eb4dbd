"""What a stage says of itself: a log line per event, and whether it lives and is ready.

A line is an event name and fields from an allow-list; anything else is dropped before it
is written, so that no pixel, account or key can reach a log by accident:

* The event is one word in lower case, not a sentence: whoever puts a value into it gets
  `unnamed`.  Of other libraries' lines only the logger's name is kept.
* A field is text, a number or nothing; bytes and other objects are named by their type.
* Of an exception, the code (if it is ours) or its type, and the place.  What ends the
  process or a thread is written the same way, and never as a traceback.
* If a signal ends the process (a segfault, an abort), the lines of code that its threads were
  at are written as they are: files, functions and numbers, and no value.
"""

import faulthandler
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from erasestream.schemas.errors import ErasestreamError, Refused

FIELDS = (
    "stage", "instance", "code", "reason", "topic", "partition", "offset", "count", "port",
    "lane", "model", "children", "seconds", "committed", "aborted",
)  # fmt: skip

MAX_TEXT = 500
"""Longest text in a line, in characters: a sentence, and never a document."""

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One JSON object a line, with the allowed fields only."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "library",
            "logger": record.name,
        }
        if record.name.partition(".")[0] == "erasestream":
            line["event"] = _event(record.msg)
            given = record.__dict__
            line |= {name: _plain(given[name]) for name in FIELDS if name in given}
        if record.exc_info and record.exc_info[1]:
            line |= _told(record.exc_info[1])
        return json.dumps(line)


def _event(message: object) -> str:
    named = isinstance(message, str) and _EVENT.fullmatch(message)
    return str(message) if named else "unnamed"


def _plain(value: object) -> object:
    if isinstance(value, str):
        return str(value)[:MAX_TEXT]
    return value if isinstance(value, int | float | None) else type(value).__name__


def _told(error: BaseException) -> dict[str, str]:
    """What a line may say of an exception: its text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": error.code if isinstance(error, ErasestreamError) else type(error).__name__,
        "where": f"{frames[-1].name}:{frames[-1].lineno}" if frames else "",
    }


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all log lines of this process to standard error, and what ends it or a thread."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("erasestream").setLevel(level)
    logging.raiseExceptions = False  # its report of a line that fails shows the arguments
    faulthandler.enable()
    sys.excepthook = _process_died
    threading.excepthook = _thread_died


def _process_died(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    log.critical("died", exc_info=(kind, error, trace))


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        log.critical("died", exc_info=args.exc_value)


class Health:
    """`/healthz` (the process turns) and `/readyz` (it can do its work), on loopback only.

    They carry nothing of a customer, which is why they may be without TLS.  Raises `Refused`
    if the port is taken.
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
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        except OSError as error:
            raise Refused(f"health port {port}: {error.strerror}") from error
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True, name="health").start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
