"""Log lines hold the allowed fields and nothing else."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from erasestream.pipeline.runtime.json_logging import FIELDS, MAX_TEXT, JsonFormatter
from erasestream.schemas.errors import Code, InvalidEvent

PIXELS = b"\xff\xd8\xff\xe0 pixels of a customer"
ACCOUNT = "acct-of-ann"
KEY = "-----BEGIN PRIVATE KEY-----"
SECRETS = ("pixels", "xff", ACCOUNT, "PRIVATE")

Line = dict[str, object]


class Lines(logging.Handler):
    """Collects formatted lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Collect the lines logged during a test."""
    handler = Lines()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def only(lines: Lines) -> Line:
    """Return the only line that was written, after checking that it holds no secret."""
    (text,) = lines.texts
    assert not any(secret in text for secret in SECRETS), text
    line: Line = json.loads(text)
    return line


OURS = logging.getLogger("erasestream.test")
THEIRS = logging.getLogger("library.test")


def test_a_line_is_an_event_with_its_fields(lines: Lines) -> None:
    OURS.warning("waiting", extra={"code": Code.BROKER_UNAVAILABLE, "count": 3, "seconds": 0.5})
    line = only(lines)
    assert line.pop("at")
    assert line == {
        "level": "warning",
        "event": "waiting",
        "logger": "erasestream.test",
        "code": "broker_unavailable",
        "count": 3,
        "seconds": 0.5,
    }


@pytest.mark.parametrize("name", ["account", "key", "image", "data", "value", "headers", "args_"])
def test_fields_that_are_not_on_the_list_are_dropped(lines: Lines, name: str) -> None:
    OURS.info("stored", extra={name: (PIXELS, ACCOUNT, KEY), "count": 1})
    line = only(lines)
    assert name not in line
    assert line["count"] == 1


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value", [PIXELS, bytearray(PIXELS), [ACCOUNT], {KEY: 1}, InvalidEvent(KEY)]
)
def test_objects_in_allowed_fields_are_named_by_type(
    lines: Lines, field: str, value: object
) -> None:
    OURS.info("stored", extra={field: value})
    assert only(lines)[field] == type(value).__name__


def test_a_message_with_placeholders_is_unnamed_and_loses_its_arguments(lines: Lines) -> None:
    OURS.info("stored %s of %s under %s", PIXELS, ACCOUNT, KEY)
    assert only(lines)["event"] == "unnamed"


@pytest.mark.parametrize(
    "message", [f"stored for {ACCOUNT}", KEY, str(PIXELS), PIXELS, InvalidEvent(ACCOUNT), [ACCOUNT]]
)
def test_a_message_that_is_no_event_name_is_dropped(lines: Lines, message: object) -> None:
    OURS.error(message)
    assert only(lines)["event"] == "unnamed"


def test_long_text_is_truncated(lines: Lines) -> None:
    OURS.info("stored", extra={"reason": "a" * 100_000})
    assert only(lines)["reason"] == "a" * MAX_TEXT


class ForeignError(Exception):
    """An exception of another library, whose `code` is a secret."""

    code = KEY


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ValueError(PIXELS, ACCOUNT), "ValueError"),
        (ForeignError(KEY), "ForeignError"),
        (InvalidEvent(ACCOUNT, code=Code.INVALID_ACCOUNT), "invalid_account"),
        (SystemExit(KEY), "SystemExit"),
    ],
)
def test_exceptions_are_logged_by_code_and_place(
    lines: Lines, error: Exception, named: str
) -> None:
    try:
        raise error from ValueError(KEY)  # noqa: TRY301 (the place is asserted)
    except BaseException:  # noqa: BLE001 (SystemExit too)
        OURS.exception("ended", stack_info=True)
    line = only(lines)
    assert line["error"] == named
    assert str(line["where"]).startswith("test_exceptions_are_logged_by_code_and_place:")


def test_lines_of_other_libraries_keep_only_the_logger(lines: Lines) -> None:
    THEIRS.warning("sent %s", PIXELS, extra={"reason": ACCOUNT, "topic": KEY})
    line = only(lines)
    assert (line["event"], line["logger"]) == ("library", "library.test")
    assert not line.keys() & set(FIELDS)


def test_a_logger_whose_name_begins_like_ours_is_not_ours(lines: Lines) -> None:
    logging.getLogger("erasestreams").warning("looks_fine", extra={"reason": ACCOUNT})
    assert only(lines)["event"] == "library"


DIES = """
import logging, threading
from erasestream.pipeline.runtime.json_logging import log_to_stderr
log_to_stderr()
def die(): raise ValueError("pixels of acct-of-ann")
thread = threading.Thread(target=die)
thread.start()
thread.join()
class Unwritable(str):
    def __str__(self): die()
logging.getLogger("erasestream.test").info("stored", extra={"reason": Unwritable("PRIVATE")})
die()
"""


def test_uncaught_exceptions_are_logged_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DIES], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    lines = [json.loads(text) for text in ended.stderr.splitlines()]
    assert [(line["event"], line["error"]) for line in lines] == [("died", "ValueError")] * 2
    assert not any(secret in ended.stderr for secret in SECRETS)


ABORTS = """
import os
from erasestream.pipeline.runtime.json_logging import log_to_stderr
log_to_stderr()
def a_function(value): os.abort()
a_function("pixels of acct-of-ann")
"""


def test_a_fatal_signal_writes_the_place_and_no_value() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ABORTS], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGABRT
    assert "in a_function" in ended.stderr
    assert not any(secret in ended.stderr for secret in SECRETS)
