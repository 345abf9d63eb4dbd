"""Log lines hold what is allowed and nothing else; probes are answered."""

import json
import logging
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from erasestream.pipeline.runtime.json_logging import FIELDS, MAX_TEXT, Health, JsonLines
from erasestream.schemas.errors import Code, InvalidEvent, Refused

PIXELS = b"\xff\xd8\xff\xe0 pixels of a stranger"
ACCOUNT = "acct-of-ann"
KEY = "-----BEGIN PRIVATE KEY-----"
SECRETS = ("pixels", "xff", ACCOUNT, "PRIVATE")

Line = dict[str, object]


class Lines(logging.Handler):
    """Keeps what is written, as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.texts.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged during a test."""
    handler = Lines()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def only(lines: Lines) -> Line:
    """The one line that was written, which says nothing secret."""
    (text,) = lines.texts
    assert not any(secret in text for secret in SECRETS), text
    line: Line = json.loads(text)
    return line


OURS = logging.getLogger("erasestream.test")
THEIRS = logging.getLogger("library.test")


def test_a_line_is_an_event_with_its_fields(lines: Lines) -> None:
    """What is on the list is written as it is."""
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
    """Whatever they hold."""
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
    """Only text and numbers are written; an image is neither."""
    OURS.info("stored", extra={field: value})
    assert only(lines)[field] == type(value).__name__


def test_arguments_are_dropped(lines: Lines) -> None:
    """A message with placeholders is no event name, and nothing is put into it."""
    OURS.info("stored %s of %s under %s", PIXELS, ACCOUNT, KEY)
    assert only(lines)["event"] == "unnamed"


@pytest.mark.parametrize(
    "message", [f"stored for {ACCOUNT}", KEY, str(PIXELS), PIXELS, InvalidEvent(ACCOUNT), [ACCOUNT]]
)
def test_what_is_no_event_name_is_dropped(lines: Lines, message: object) -> None:
    """A sentence, an exception, an image: whatever stands where the name should."""
    OURS.error(message)
    assert only(lines)["event"] == "unnamed"


def test_long_text_is_cut(lines: Lines) -> None:
    """No document gets into a line."""
    OURS.info("stored", extra={"reason": "a" * 100_000})
    assert only(lines)["reason"] == "a" * MAX_TEXT


class Speaking(Exception):
    """Of another library: its code is a secret, too."""

    code = KEY


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ValueError(PIXELS, ACCOUNT), "ValueError"),
        (Speaking(KEY), "Speaking"),
        (InvalidEvent(ACCOUNT, code=Code.INVALID_ACCOUNT), "invalid_account"),
        (SystemExit(KEY), "SystemExit"),
    ],
)
def test_exceptions_are_told_by_code_and_place(lines: Lines, error: Exception, named: str) -> None:
    """Never by their text, nor by that of their cause."""
    try:
        raise error from ValueError(KEY)  # noqa: TRY301 (the place is looked at)
    except BaseException:  # noqa: BLE001 (also what ends a process)
        OURS.exception("ended", stack_info=True)
    line = only(lines)
    assert line["error"] == named
    assert str(line["where"]).startswith("test_exceptions_are_told_by_code_and_place:")


def test_lines_of_other_libraries_are_only_counted(lines: Lines) -> None:
    """Their messages and their fields may hold anything; that there was one is kept."""
    THEIRS.warning("sent %s", PIXELS, extra={"reason": ACCOUNT, "topic": KEY})
    line = only(lines)
    assert (line["event"], line["logger"]) == ("library", "library.test")
    assert not line.keys() & set(FIELDS)


def test_a_name_that_begins_like_ours_is_not_ours(lines: Lines) -> None:
    """The list is for this package."""
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


def test_what_ends_a_process_or_thread_is_a_line_too() -> None:
    """No traceback with the values in it, and the exit status says that something failed."""
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
def in_the_midst_of(value): os.abort()
in_the_midst_of("pixels of acct-of-ann")
"""


def test_a_signal_that_ends_a_process_leaves_the_place() -> None:
    """Where it was, so that an abort of a library can be explained; and no value."""
    ended = subprocess.run(
        [sys.executable, "-c", ABORTS], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGABRT
    assert "in in_the_midst_of" in ended.stderr
    assert not any(secret in ended.stderr for secret in SECRETS)


Probe = Callable[[str], tuple[int, bytes]]


@pytest.fixture
def readiness() -> dict[str, bool]:
    """Whether the stage under test is ready."""
    return {"ready": False}


@pytest.fixture
def probe(readiness: dict[str, bool]) -> Iterator[Probe]:
    """Asks a page of a stage's health."""
    health = Health(port=0, ready=lambda: readiness["ready"])

    def ask(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{health.port}{path}") as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    yield ask
    health.close()


def test_ready_is_said_when_it_is_true(probe: Probe, readiness: dict[str, bool]) -> None:
    """Alive all the time; ready only while the work can be done."""
    assert probe("/healthz") == (200, b"ok\n")
    assert probe("/readyz") == (503, b"not ready\n")
    readiness["ready"] = True
    assert probe("/readyz") == (200, b"ok\n")
    readiness["ready"] = False
    assert probe("/readyz")[0] == 503
    assert probe("/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/readyz/", "/../etc/passwd", "/healthz?x=1"])
def test_there_are_no_other_pages(probe: Probe, path: str) -> None:
    """Nothing else answers."""
    assert probe(path) == (404, b"no such page\n")


def test_a_taken_port_is_refused_in_a_sentence() -> None:
    """Two stages on one port: the second says which."""
    first = Health(port=0, ready=lambda: True)
    try:
        with pytest.raises(Refused, match=f"health port {first.port}"):
            Health(port=first.port, ready=lambda: True)
    finally:
        first.close()
