"""Clocks and deadlines.  The caller passes the clock that a deadline reads."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Monotonic seconds, such as `time.monotonic`: for timeouts, intervals and deadlines."""

WallClock = Callable[[], datetime]
"""The time of day, aware and in UTC: for what is written into events."""


def utc_now() -> datetime:
    """Return the time of day: the `WallClock` of a process that is given no other."""
    return datetime.now(UTC)


class Deadline:
    """End of a wait, on a monotonic clock.

    Wait in slices of `slice_s(most_s)`, and stop once `has_passed`.  Immutable; thread-safe if
    the clock is.
    """

    __slots__ = ("_clock", "_end_s")

    def __init__(self, timeout_s: float, clock: Clock) -> None:
        self._clock = clock
        self._end_s = clock() + timeout_s

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return not self._clock() < self._end_s  # so that a timeout that is no number has passed

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self._clock())

    def slice_s(self, most_s: float) -> float:
        """Return how long to wait before the next look: the time left, at most `most_s`."""
        return min(most_s, self.remaining_s)
