"""Clocks and deadlines.  Pure: whoever makes a deadline passes the clock that it reads."""

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], float]
"""Seconds that only grow, such as `time.monotonic`: for timeouts, intervals and deadlines."""

WallClock = Callable[[], datetime]
"""The time of day, aware and in UTC: for what is written into events."""


class Deadline:
    """The moment at which waiting ends, on a monotonic clock.

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
        return self._clock() >= self._end_s

    @property
    def remaining_s(self) -> float:
        """The seconds that are left, never negative."""
        return max(0.0, self._end_s - self._clock())

    def slice_s(self, most_s: float) -> float:
        """The seconds to wait before looking again: what is left, at most `most_s`."""
        return min(most_s, self.remaining_s)
