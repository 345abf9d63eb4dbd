"""JSON log lines, one per event.

A line is an event name and fields from an allow-list; anything else is dropped before it
is written, so that no pixel, account or key can reach a log by accident:

* The event is one word in lower case, not a sentence; anything else is logged as `unnamed`.
  Of other libraries' lines only the logger's name is kept.
* A field is text, a number or null; bytes and other objects are replaced by their type's name.
* An exception is reduced to its code (if it is ours) or its type, and the place.  The same
  holds for one that ends the process or a thread: no traceback is written.
* If a signal ends the process (a segfault, an abort), faulthandler writes where its threads
  were: files, functions and line numbers, and no value.
"""

import faulthandler
import json
import logging
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType

from erasestream.schemas.errors import ErasestreamError

FIELDS = (
    "stage", "instance", "code", "reason", "topic", "partition", "offset", "count", "port",
    "lane", "model", "children", "seconds", "committed", "aborted",
)  # fmt: skip

MAX_TEXT = 500
"""Longest text in a line, in characters: enough for a sentence, not for a document."""

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")

log: logging.Logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object with the allowed fields only."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "library",
            "logger": record.name,
        }
        if record.name.partition(".")[0] == "erasestream":
            line["event"] = _event(record.msg)
            extra = record.__dict__
            line |= {name: _plain(extra[name]) for name in FIELDS if name in extra}
        if record.exc_info and record.exc_info[1]:
            line |= _exception_fields(record.exc_info[1])
        return json.dumps(line)


def _event(message: object) -> str:
    named = isinstance(message, str) and _EVENT.fullmatch(message)
    return str(message) if named else "unnamed"


def _plain(value: object) -> object:
    if isinstance(value, str):
        return str(value)[:MAX_TEXT]
    return value if isinstance(value, int | float | None) else type(value).__name__


def _exception_fields(error: BaseException) -> dict[str, str]:
    """Return what may be logged of an exception; its text may hold anything, so not that."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": error.code if isinstance(error, ErasestreamError) else type(error).__name__,
        "where": f"{frames[-1].name}:{frames[-1].lineno}" if frames else "",
    }


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log to standard error, uncaught exceptions of the process and its threads included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("erasestream").setLevel(level)
    logging.raiseExceptions = False  # its report of a failed line shows the arguments
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
