"""Wait and try again: the only place in `topics` and `sinks` that sleeps between attempts.

Threads that an event may wake before the next attempt (`opening_thread.py`, `sealing_keys.py`) wait
for it themselves, for `pause_s` at most.

Rules, all of them:

* Only `Unavailable` is retried; every other error goes to the caller at once.
* Pauses grow with the failures in a row (`pause_s`): the first is 0, since most failures are over
  at once, and none is longer than `max_pause_s`.
* Retrying ends when an attempt succeeds, when `stopping` is set, or when the deadline has passed;
  in the last two cases the error of the last attempt is raised.  Both end a pause early.
* An outage is logged once, if the caller names an event for it.
"""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Unavailable

log: logging.Logger = logging.getLogger(__name__)

MAX_PAUSE_S = 5.0
"""Default of the longest pause; short beside a group member's session."""

T = TypeVar("T")


def pause_s(failures: int, max_pause_s: float = MAX_PAUSE_S) -> float:
    """Return the pause after so many failures in a row: 0, 0.1, 0.3, 0.7 s and so on.  Pure."""
    return min(max_pause_s, 0.1 * (2.0 ** min(failures - 1, 10) - 1))


class Backoff:
    """Growing pauses between failures, for a loop that retries in its own way.  One thread."""

    def __init__(
        self, *, stopping: threading.Event | None = None, max_pause_s: float = MAX_PAUSE_S
    ) -> None:
        """End pauses early once `stopping` is set."""
        self._stopping = stopping or threading.Event()
        self._max_pause_s = max_pause_s
        self.failures: int = 0
        """Failures in a row."""

    def pause(self, deadline: Deadline | None = None) -> None:
        """Count a failure and wait, not beyond the deadline."""
        self.failures += 1
        wait_s = pause_s(self.failures, self._max_pause_s)
        self._stopping.wait(deadline.slice_s(wait_s) if deadline else wait_s)

    def reset(self) -> None:
        """Begin with the shortest pause again, after a success."""
        self.failures = 0


def retry(
    attempt: Callable[[], T],
    *,
    deadline: Deadline | None = None,
    stopping: threading.Event | None = None,
    max_pause_s: float = MAX_PAUSE_S,
    event: str | None = None,
) -> T:
    """Return what the attempt returns, trying again while it raises `Unavailable`.

    Raises `Unavailable` once the deadline has passed or `stopping` is set.  With neither it tries
    without end.  `event` names a warning that is logged before the first pause.
    Thread-safe: nothing is shared between calls.
    """
    backoff = Backoff(stopping=stopping, max_pause_s=max_pause_s)
    while True:
        try:
            return attempt()
        except Unavailable as error:
            is_stopping = stopping is not None and stopping.is_set()
            if is_stopping or (deadline is not None and deadline.has_passed):
                raise
            if event is not None and not backoff.failures:
                log.warning(event, extra={"code": error.code, "reason": error.detail})
        backoff.pause(deadline)
