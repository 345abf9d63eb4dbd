"""Retry while a dependency is unavailable, and log it once.

The only place in `pipeline` that sleeps between attempts of one call.  Stages and the bulk upload,
which work in rounds, try again in a later round, and log through `OutageLog`.  Other sleeps poll a
condition or keep an interval: `tests/docs/test_waits.py` lists them.

Rules of `RetryUntilStopped`, all of them:

* Only `Unavailable` is retried; every other error goes to the caller at once.
* Pauses double, from the first one to `MAX_RETRY_S`, and are shortened at random by up to half:
  threads and processes that failed at the same time do not all come back at the same time.
* Retrying ends when an attempt succeeds, when the stage is to stop, or when the deadline has
  passed; in the last two cases the error of the last attempt is raised.
* An outage is logged once, however many attempts fail and however many threads wait for it.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from typing import TypeVar

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Unavailable

log: logging.Logger = logging.getLogger(__name__)

RETRY_S = 1.0
MAX_RETRY_S = 5.0
"""Longest pause, unless the first one is longer."""

T = TypeVar("T")


def _log_outage(event: str, error: Unavailable) -> None:
    log.warning(event, extra={"code": error.code, "reason": error.detail})


def pause_s(failures: int, *, first_s: float = RETRY_S) -> float:
    """Return the pause after so many failures, one at least, in a row."""
    longest_s = max(first_s, MAX_RETRY_S)
    pause = min(longest_s, first_s * 2.0 ** min(failures - 1, 10))
    return pause * random.uniform(0.5, 1)  # noqa: S311 (nothing is secret)


class RetryUntilStopped:
    """Retries calls until they succeed or the stage is to stop.  Thread-safe.

    `stopping` wakes whatever waits.  `event` is the name of the log line; of the calls that wait
    at the same time only the first logs it.
    """

    def __init__(
        self, stopping: threading.Event, *, retry_s: float = RETRY_S, event: str = "waiting"
    ) -> None:
        self._stopping = stopping
        self._retry_s = retry_s
        self._event = event
        self._lock = threading.Lock()
        self._waiting = 0

    def call(self, attempt: Callable[[], T], *, deadline: Deadline | None = None) -> T:
        """Return what the attempt returns.

        Raises `Unavailable` once the stage is to stop, or the deadline has passed.
        """
        try:
            return attempt()
        except Unavailable as error:
            if self._is_over(deadline):
                raise
            self._begin_waiting(error)
        try:
            return self._retry(attempt, deadline)
        finally:
            with self._lock:
                self._waiting -= 1

    def _retry(self, attempt: Callable[[], T], deadline: Deadline | None) -> T:
        failures = 0
        while True:
            failures += 1
            wait_s = pause_s(failures, first_s=self._retry_s)
            self._stopping.wait(deadline.slice_s(wait_s) if deadline else wait_s)
            try:
                return attempt()
            except Unavailable:
                if self._is_over(deadline):
                    raise

    def _is_over(self, deadline: Deadline | None) -> bool:
        return self._stopping.is_set() or (deadline is not None and deadline.has_passed)

    def _begin_waiting(self, error: Unavailable) -> None:
        with self._lock:
            self._waiting += 1
            is_first = self._waiting == 1
        if is_first:
            _log_outage(self._event, error)


class PausedAttempts:
    """Attempts with equal pauses, in an event loop: `async for _ in PausedAttempts(1.0)`.

    For errors other than `Unavailable`, and for steady rates.  Leave the loop once an attempt has
    succeeded; it ends after `most` attempts, without an error.  A pause follows every attempt,
    the last one included.
    """

    # No async generator: the event loop would need a task to close one that is left early.

    def __init__(self, pause_s: float, *, most: int | None = None) -> None:
        self._pause_s = pause_s
        self._most = most
        self._begun = 0

    def __aiter__(self) -> "PausedAttempts":
        """Return this object."""
        return self

    async def __anext__(self) -> int:
        """Return the number of the next attempt, from 1 on, after the pause."""
        if self._begun:
            await asyncio.sleep(self._pause_s)
        if self._begun == self._most:
            raise StopAsyncIteration
        self._begun += 1
        return self._begun


class OutageLog:
    """Logs an outage once, for a stage that retries in rounds of its own.  Thread-safe.

    An outage ends with the first round in which nothing was reported.
    """

    def __init__(self, event: str = "waiting") -> None:
        self._event = event
        self._lock = threading.Lock()
        self._is_logged = False
        self._is_open = False

    def report(self, error: Unavailable) -> None:
        """Log the error, unless the outage is logged already."""
        with self._lock:
            logs = not self._is_logged
            self._is_logged = self._is_open = True
        if logs:
            _log_outage(self._event, error)

    def end_round(self) -> bool:
        """Return whether anything was reported during the round that ends."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
            self._is_logged = was_open
        return was_open
