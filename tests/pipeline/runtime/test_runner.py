"""A stage is closed whatever ends it, and the exit status names the reason."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest

from erasestream.pipeline.runtime import runner as runner_module
from erasestream.pipeline.runtime.runner import (
    EX_CONFIG,
    EX_OK,
    EX_SOFTWARE,
    EX_UNAVAILABLE,
    StageRunner,
)
from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import (
    ErasestreamError,
    Fenced,
    InvariantBroken,
    Refused,
    Unavailable,
)
from tests.paths import ROOT


class ScriptedStage:
    """A stage that runs one function per `run_once`, and records what happens to it."""

    def __init__(self, *script: Callable[[], object]) -> None:
        self.events: list[str] = []
        self.is_prepared = True
        self.close_error: Exception | None = None
        self.script = list(script)

    @contextmanager
    def opened(self, stopping: threading.Event) -> Iterator["ScriptedStage"]:
        self.stopping = stopping
        self.events.append("open")
        try:
            yield self
        finally:
            self.close()

    def run_once(self, timeout_s: float) -> None:
        assert timeout_s > 0
        if self.script:
            self.script.pop(0)()

    def is_ready(self) -> bool:
        return self.is_prepared

    def close(self) -> None:
        is_stopping = self.stopping.is_set()
        self.events.append("close, stopping" if is_stopping else "close, not stopping")
        if self.close_error:
            raise self.close_error


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def runner(
    stage: ScriptedStage,
    *,
    ready_deadline: timedelta = timedelta(seconds=60),
    renewed: Callable[[], bool] = lambda: False,
    clock: Clock = time.monotonic,
) -> StageRunner:
    return StageRunner(
        "test", stage.opened, ready_deadline=ready_deadline, renewed=renewed, clock=clock
    )


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the events that were logged, in order."""
    caplog.set_level(logging.INFO, logger="erasestream")
    return lambda: [record.msg for record in caplog.records]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unavailable("broker"), EX_UNAVAILABLE),
        (Fenced("by another"), EX_SOFTWARE),
        (InvariantBroken("offset"), EX_SOFTWARE),
        (Refused("settings"), EX_CONFIG),
    ],
)
def test_an_error_closes_the_stage_and_decides_the_status(
    error: ErasestreamError, status: int, logged: Callable[[], list[str]]
) -> None:
    stage = ScriptedStage(lambda: None, raising(error))
    assert runner(stage).run() == status
    assert stage.events == ["open", "close, stopping"]
    assert logged() == ["ready", "ended"]


@pytest.mark.parametrize("close_error", [Unavailable("broker"), RuntimeError("closed")])
def test_an_error_while_closing_does_not_hide_the_first(
    close_error: Exception, logged: Callable[[], list[str]]
) -> None:
    stage = ScriptedStage(raising(Fenced("by another")))
    stage.close_error = close_error
    assert runner(stage).run() == EX_SOFTWARE
    assert logged() == ["close_failed", "ended"]


def test_an_unexpected_exception_closes_the_stage() -> None:
    stage = ScriptedStage(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        runner(stage).run()
    assert stage.events == ["open", "close, stopping"]


def test_stop_ends_the_stage_after_its_piece_of_work(logged: Callable[[], list[str]]) -> None:
    stage = ScriptedStage()
    running = runner(stage)
    stage.script = [running.stop]
    assert running.run() == EX_OK
    assert stage.events == ["open", "close, stopping"]
    assert logged() == ["ready", "ended"]


def test_unavailable_after_stop_ends_with_success(logged: Callable[[], list[str]]) -> None:
    def stop_and_fail() -> None:
        running.stop()
        raise Unavailable("broker")

    running = runner(ScriptedStage(stop_and_fail))
    assert running.run() == EX_OK
    assert logged() == ["ended"]


def test_an_error_while_closing_after_stop_decides_the_status() -> None:
    stage = ScriptedStage()
    stage.close_error = InvariantBroken("half a decision")
    running = runner(stage)
    stage.script = [running.stop]
    assert running.run() == EX_SOFTWARE


def test_a_renewed_certificate_closes_the_stage_and_builds_it_again(
    logged: Callable[[], list[str]],
) -> None:
    renewals = iter([False, True, False, False])
    stage = ScriptedStage(lambda: None, lambda: None)
    running = runner(stage, renewed=lambda: next(renewals))
    stage.script.append(running.stop)
    assert running.run() == EX_OK
    assert stage.events == ["open", "close, not stopping", "open", "close, stopping"]
    assert logged() == ["ready", "certificate_renewed", "ready", "ended"]


def test_an_unavailable_dependency_is_waited_for_while_building(
    logged: Callable[[], list[str]],
) -> None:
    stage = ScriptedStage()
    failures = iter([Unavailable("broker"), Unavailable("broker")])

    @contextmanager
    def build(stopping: threading.Event) -> Iterator[ScriptedStage]:
        for error in failures:
            raise error
        with stage.opened(stopping):
            yield stage

    minute = timedelta(minutes=1)
    running = StageRunner("test", build, ready_deadline=minute, renewed=lambda: False)
    stage.script = [running.stop]
    assert running.run() == EX_OK
    assert logged() == ["waiting", "ready", "ended"]


def test_a_stage_that_cannot_be_built_in_time_ends() -> None:
    def build(_: threading.Event) -> closing[ScriptedStage]:
        raise Unavailable("broker")

    running = StageRunner("test", build, ready_deadline=timedelta(0), renewed=lambda: False)
    assert running.run() == EX_UNAVAILABLE


def test_a_stage_that_is_not_ready_in_time_ends_and_is_closed() -> None:
    stage = ScriptedStage()
    stage.is_prepared = False
    assert runner(stage, ready_deadline=timedelta(0)).run() == EX_UNAVAILABLE
    assert stage.events == ["open", "close, stopping"]


def test_a_stage_may_take_longer_to_load_than_to_become_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A router reads every decision there is before it joins its group."""
    stage = ScriptedStage()
    stage.is_prepared = False
    # The stage takes 1000 s to open.
    clock = SimpleNamespace(monotonic=lambda: 1000.0 * len(stage.events))
    monkeypatch.setattr(runner_module, "time", clock)
    running = runner(stage)
    stage.script = [lambda: None, lambda: setattr(stage, "is_prepared", True), running.stop]
    assert running.run() == EX_OK


def test_ready_only_while_a_ready_stage_is_open() -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append(running.is_ready())
        running.stop()

    running = runner(ScriptedStage(look))
    assert not running.is_ready()
    running.run()
    assert seen == [True]
    assert not running.is_ready()


PROCESS = """
import ctypes
import sys
from contextlib import closing
from datetime import timedelta
from erasestream.pipeline.runtime.runner import run

class Stage:
    def run_once(self, timeout_s):
        print("working", flush=True)
    def is_ready(self):
        return True
    def close(self):
        if sys.argv[1] == "does not close":
            hang_in_a_library()
        print("closed", flush=True)

def hang_in_a_library():
    # A mutex that is locked twice: no signal ends the call, and Python runs no handler meanwhile.
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    while True:
        library.pthread_mutex_lock(mutex)

def build(stopping):
    if sys.argv[1] == "never built":
        print("building", flush=True)
        while True:
            pass
    if sys.argv[1] == "hangs":
        print("hanging", flush=True)
        hang_in_a_library()
    return closing(Stage())

minute = timedelta(seconds=60)
sys.exit(run("test", build, health_port=0, ready_deadline=minute, end_within_s=float(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("case", "printed_first", "printed_last"),
    [
        ("built", "working", "closed"),
        ("never built", "building", ""),
        ("does not close", "working", ""),
        ("hangs", "hanging", ""),
    ],
)
def test_sigterm_ends_the_process_with_success(
    case: str, printed_first: str, printed_last: str
) -> None:
    """Also while a library's call does not return."""
    end_within_s = "60" if case in {"built", "never built"} else "0.1"
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS, case, end_within_s],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{printed_first}\n"
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=60)
    assert process.returncode == EX_OK
    assert [word for word in output.split() if word != "working"] == printed_last.split()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert (events[0], events[-1]) == ("starting", "ended")
