"""Checks of a replica of the key service before it believes itself: of its clock and its folder.

Rules, all of them:

* A replica destroys nothing, gives nothing out and keeps no key in memory while its clock differs
  from the vault's by more than the clock error: one that is a day ahead would destroy keys that
  others use, one that is behind would give out dead keys.
* While the vault is unavailable, its last time is continued by the monotonic clock.
* The folder of master keys must have been that of the vault once before anything is given out.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from erasestream.schemas.clocks import Clock, WallClock
from erasestream.schemas.errors import Refused, Unavailable

RESOLUTION_S = 1.0
"""Largest part of a time of day that a bucket may leave out."""


class SelfCheck:
    """The checks of one replica, by one thread; any thread may ask for the outcome."""

    def __init__(
        self,
        *,
        now: WallClock,
        witness: WallClock,
        clock: Clock,
        clock_error_s: float,
        verify_masters: Callable[[], None],
    ) -> None:
        """`witness`: the vault's clock, which raises `Unavailable`; `verify_masters` as below."""
        self._now = now
        self._witness = witness
        self._clock = clock
        self._allowed = timedelta(seconds=clock_error_s + RESOLUTION_S)
        self._verify_masters = verify_masters
        self._seen: tuple[datetime, float] | None = None
        self._is_in_time = False
        self._has_masters = False

    def is_passed(self) -> bool:
        """Return whether keys may be given out and created, as of the last look."""
        return self._is_in_time and self._has_masters

    def check_clock(self) -> None:
        """Raise `Refused` if this clock is wrong, `Unavailable` before the vault has answered."""
        before = self._now()
        seen = self._witnessed()
        after = self._now()
        self._is_in_time = before - self._allowed <= seen <= after + self._allowed
        if not self._is_in_time:
            raise Refused(
                f"this clock is {(after - seen).total_seconds():+.0f} s from the vault's: set it"
            )

    def check_masters(self) -> None:
        """Raise `Refused` if the folder is not the vault's, `Unavailable` if that is not known."""
        self._verify_masters()
        self._has_masters = True

    def _witnessed(self) -> datetime:
        try:
            seen = self._witness()
        except Unavailable:
            if self._seen is None:
                raise
            at, clock_s = self._seen
            return at + timedelta(seconds=self._clock() - clock_s)
        self._seen = seen, self._clock()
        return seen
