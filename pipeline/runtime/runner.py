"""Run a stage: start it within a deadline or exit, run it, and close it cleanly at SIGTERM.

Rules, all of them:

* Entering what `build` returns opens the stage with all its parts, leaving it closes them.  While
  that raises `Unavailable` it is retried, up to the deadline; what failed half-way has closed
  what it had opened.
* The deadline begins again once the stage is open: what it loads before, as many decisions as there
  may be, takes as long as it takes.  It begins again, too, whenever an open stage has loaded more;
  but a stage that is not ready `LONGEST_LOADING` deadlines after it was opened ends.
* The stage is closed whatever ends it: a signal, an error, a renewed certificate.
* If an error ends the stage, `stopping` is set before it is closed, so that no thread of it waits
  any longer.  That error decides the exit status, not one that closing raises after it.
* SIGTERM while no stage is open exits at once: nothing has been started that must be finished.
* What has not ended some time after SIGTERM is ended as by a crash (`bounded_end.py`).

Exit status, after sysexits.h, so that a supervisor can tell: 0 ended on request, 69 a dependency
is unavailable, 70 restart it (fenced, or an invariant is broken), 78 the configuration is wrong.
"""

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import Protocol, runtime_checkable

from erasestream.pipeline.runtime.bounded_end import END_WITHIN_S, BoundedEnd
from erasestream.pipeline.runtime.health import Health
from erasestream.pipeline.runtime.json_logging import log_to_stderr
from erasestream.pipeline.runtime.quarantine import QuarantinedPartition
from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import ErasestreamError, Refused, StageNotReady, Unavailable

log: logging.Logger = logging.getLogger(__name__)

EX_OK = 0
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CONFIG = 78

BUILD_RETRY_S = 0.5
"""Pause before a stage that could not be built is built again."""
LONGEST_LOADING = 10
"""How many deadlines an open stage may load, whatever its progress: that may be without end."""
RUN_ONCE_S = 0.2
"""Longest wait of a stage for work before the runner checks whether it is to stop."""


class Stage(Protocol):
    """The shape of every stage."""

    def run_once(self, timeout_s: float) -> None:
        """Do one small piece of work; wait up to the timeout for some."""

    def is_ready(self) -> bool:
        """Return whether the stage can do its work."""

    def close(self) -> None:
        """Finish what was begun, and release what the stage itself holds."""


@runtime_checkable
class QuarantiningStage(Protocol):
    """A stage that works on without the partitions that are broken."""

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions that the stage does not read."""


@runtime_checkable
class MeasuredStage(Protocol):
    """A stage with metrics of its own."""

    def metrics(self) -> str:
        """Return them in the text format of Prometheus."""


@runtime_checkable
class LoadingStage(Protocol):
    """A stage that loads, once it is open, what it must know to be ready."""

    def loaded(self) -> int:
        """Return how much is loaded of what is missing; while it grows, the deadline is renewed."""


Build = Callable[[threading.Event], AbstractContextManager[Stage]]
"""Opens a stage with all its parts; the event is set once the stage is to stop.

Raises `Refused` with a sentence if anything is missing, `Unavailable` to be called again.
"""


def run(
    name: str,
    build: Build,
    *,
    health_port: int,
    ready_deadline: timedelta,
    renewed: Callable[[], bool] = lambda: False,
    end_within_s: float = END_WITHIN_S,
) -> int:
    """Run a stage until SIGTERM or SIGINT; return the exit status.

    Once `renewed` returns true (the certificate was replaced), the stage is closed and built
    again: all its clients then use the new certificate.  A stage that is not ready within the
    deadline ends, too.
    """
    log_to_stderr()
    # Imported modules stay for good: no collection needs to look through them again.
    gc.collect()
    gc.freeze()
    runner = StageRunner(name, build, ready_deadline=ready_deadline, renewed=renewed)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    BoundedEnd(name, within_s=end_within_s)
    health = Health(
        port=health_port,
        ready=runner.is_ready,
        stage=name,
        quarantined=runner.quarantined,
        metrics=runner.metrics,
    )
    log.info("starting", extra={"stage": name, "port": health.port})
    try:
        return runner.run()
    finally:
        health.close()


class StageRunner:
    """Builds, runs and closes one stage, again for each certificate."""

    def __init__(
        self,
        name: str,
        build: Build,
        *,
        ready_deadline: timedelta,
        renewed: Callable[[], bool],
        clock: Clock = time.monotonic,
    ) -> None:
        self._name = name
        self._build = build
        self._ready_deadline_s = ready_deadline.total_seconds()
        self._clock = clock
        self._renewed = renewed
        self._stopping = threading.Event()
        self._is_asked = False
        self._stage: Stage | None = None

    def stop(self) -> None:
        """Stop after the current piece of work; raise `SystemExit` if no stage is open."""
        self._is_asked = True
        self._stopping.set()
        if self._stage is None:
            raise SystemExit(EX_OK)

    def is_ready(self) -> bool:
        """Return whether a stage is open and ready."""
        stage = self._stage  # the main thread may close it meanwhile
        return stage is not None and stage.is_ready()

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions that the open stage does not read."""
        stage: object = self._stage
        return stage.quarantined() if isinstance(stage, QuarantiningStage) else []

    def metrics(self) -> str:
        """Return the metrics of the open stage, if it has any."""
        stage: object = self._stage
        return stage.metrics() if isinstance(stage, MeasuredStage) else ""

    def run(self) -> int:
        """Run until `stop` is called or an error ends the stage; return the exit status."""
        try:
            while not self._stopping.is_set():
                self._run_until_renewed()
                if not self._stopping.is_set():
                    log.info("certificate_renewed", extra={"stage": self._name})
        except ErasestreamError as error:
            self._stopping.set()
            return self._ended(error)
        except SystemExit:
            pass
        log.info("ended", extra={"stage": self._name})
        return EX_OK

    def _run_until_renewed(self) -> None:
        deadline = Deadline(self._ready_deadline_s, self._clock)
        retry = RetryUntilStopped(self._stopping, retry_s=BUILD_RETRY_S)
        with ExitStack() as opened:
            stage = retry.call(
                lambda: opened.enter_context(self._build(self._stopping)), deadline=deadline
            )
            self._stage = stage
            try:
                self._work(stage)
            except BaseException:
                self._stopping.set()
                _close_after_error(opened)
                raise
        self._stage = None

    def _work(self, stage: Stage) -> None:
        deadline = Deadline(self._ready_deadline_s, self._clock)
        last = Deadline(LONGEST_LOADING * self._ready_deadline_s, self._clock)
        was_ready, loaded = False, _loaded(stage)
        while not self._stopping.is_set() and not self._renewed():
            stage.run_once(RUN_ONCE_S)
            if was_ready:
                continue
            before, loaded = loaded, _loaded(stage)
            if stage.is_ready():
                log.info("ready", extra={"stage": self._name})
                was_ready = True
            elif loaded > before and not last.has_passed:
                deadline = Deadline(self._ready_deadline_s, self._clock)
            elif deadline.has_passed or last.has_passed:
                raise StageNotReady(f"after {self._ready_deadline_s:g} s")

    def _ended(self, error: ErasestreamError) -> int:
        if self._is_asked and isinstance(error, Unavailable):
            log.info("ended", extra={"stage": self._name, "code": error.code})
            return EX_OK
        fields = {"stage": self._name, "code": error.code, "reason": error.sentence}
        log.error("ended", extra=fields)
        return status_of(error)


def _loaded(stage: object) -> int:
    return stage.loaded() if isinstance(stage, LoadingStage) else 0


def _close_after_error(opened: ExitStack) -> None:
    try:
        opened.close()
    except Exception:  # the error that ended the stage is raised
        log.warning("close_failed", exc_info=True)


def status_of(error: ErasestreamError) -> int:
    """Return the exit status of a process that this error ends."""
    if isinstance(error, Refused):
        return EX_CONFIG
    return EX_UNAVAILABLE if isinstance(error, Unavailable) else EX_SOFTWARE
