"""How a stage lives: start or refuse within a deadline, turn, end cleanly at SIGTERM.

Exit status, after sysexits.h, so that a supervisor can tell: 0 ended as asked, 69 something
needed is away, 70 it must be started again (fenced, or an invariant is broken), 78 the
set-up is at fault.
"""

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol, TypeVar

from erasestream.pipeline.runtime.json_logging import Health, log_to_stderr
from erasestream.schemas.errors import ErasestreamError, Refused, Unavailable

log = logging.getLogger(__name__)

EX_OK = 0
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CONFIG = 78

RETRY_S = 0.5

T = TypeVar("T")


class Stage(Protocol):
    """What `run` needs of a stage."""

    def run_once(self) -> None:
        """Do a little work, or wait a little for some."""

    def is_ready(self) -> bool:
        """Whether it can do its work."""

    def close(self) -> None:
        """Finish what is begun, and leave."""


def run(
    name: str,
    build: Callable[[threading.Event], Stage],
    *,
    health_port: int,
    ready_deadline: timedelta,
    renewed: Callable[[], bool] = lambda: False,
) -> int:
    """Run a stage until SIGTERM or SIGINT; returns the exit status.

    Once `renewed` says that there is another certificate, the stage is closed, which finishes
    what is begun, and built anew: all its clients then have it.

    `build` gets the event that says that the stage shall end, and raises `Refused` with a
    sentence if anything is missing; while it raises `Unavailable` it is tried again, up to
    the deadline.  Not ready by then, the stage ends too.
    """
    log_to_stderr()
    # What is imported stays: no collection needs to look through all of it, again and again.
    gc.collect()
    gc.freeze()
    stopping = threading.Event()
    state: list[Stage] = []

    def end(*_: object) -> None:
        stopping.set()
        if not state:
            raise SystemExit(EX_OK)  # nothing is begun; no answer of a broker is waited for

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    health = Health(port=health_port, ready=lambda: bool(state) and state[0].is_ready())
    log.info("starting", extra={"stage": name, "port": health.port})
    try:
        while not stopping.is_set():
            deadline = time.monotonic() + ready_deadline.total_seconds()
            stage = patiently(build, stopping, deadline)
            if stage is not None:
                state[:] = [stage]
                _turn(name, stage, deadline, lambda: stopping.is_set() or renewed())
                stage.close()
                state.clear()
                if not stopping.is_set():
                    log.info("certificate_renewed", extra={"stage": name})
    except ErasestreamError as error:
        return _ended(name, error, stopping)
    except SystemExit:
        log.info("ended", extra={"stage": name})
        return EX_OK
    finally:
        health.close()
    log.info("ended", extra={"stage": name})
    return EX_OK


def patiently(
    build: Callable[[threading.Event], T], stopping: threading.Event, deadline: float
) -> T | None:
    """What `build` gives, tried again while something is away; None if the stage shall end."""
    said = False
    while not stopping.is_set():
        try:
            return build(stopping)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            if not said:
                log.warning("waiting", extra={"code": error.code, "reason": error.detail})
                said = True
            stopping.wait(RETRY_S)
    return None


def _turn(name: str, stage: Stage, deadline: float, shall_end: Callable[[], bool]) -> None:
    ready = False
    while not shall_end():
        stage.run_once()
        if not ready and stage.is_ready():
            log.info("ready", extra={"stage": name})
            ready = True
        elif not ready and time.monotonic() > deadline:
            raise Unavailable("no partitions were assigned to this member in time")


def _ended(name: str, error: ErasestreamError, stopping: threading.Event) -> int:
    was_asked = stopping.is_set()
    stopping.set()  # also for threads of the stage that wait for something
    if was_asked and isinstance(error, Unavailable):
        log.info("ended", extra={"stage": name, "code": error.code})
        return EX_OK
    log.error("ended", extra={"stage": name, "code": error.code, "reason": error.sentence})
    return status_of(error)


def status_of(error: ErasestreamError) -> int:
    """The exit status of a process that an error ends."""
    if isinstance(error, Refused):
        return EX_CONFIG
    return EX_UNAVAILABLE if isinstance(error, Unavailable) else EX_SOFTWARE
