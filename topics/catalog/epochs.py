"""Epochs of the keys that seal images: when each begins, is published, and dies.

An epoch is an hour of uploads.  Its keys are created and published during the epoch before, so
that producers can go on while the key service is unavailable.  The keys die so early that nothing
sealed for them can be opened once its upload is older than the promise:

    length + publishing ahead + usable + clock error + time to destroy = promise

Every upload of the epoch can therefore be opened for `window_s` (21 h 40 min).  Two
inequalities must hold:

* Short enough: the sum is within the promise.
* Long enough: the window covers the backlog limit and the delivery of results, and the sink's
  promised outage.

No I/O, no clock.  All times in seconds; epochs are numbered from 1970-01-01T00:00Z.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from erasestream.schemas.errors import PromiseExceeded
from erasestream.topics.catalog.retention_budget import (
    HOUR_S,
    PROMISE_S,
    LaneTimes,
    Policy,
    appended_age_s,
)


@dataclass(frozen=True, kw_only=True)
class EpochTimes:
    """Length of an epoch, and what is deducted from the promise."""

    promise_s: float = PROMISE_S
    length_s: float = HOUR_S
    clock_error_s: float = 300.0
    """Largest difference between any two clocks of the installation."""
    destruction_s: float = 600.0
    """Longest time from a key's death until it is deleted and its absence is verified."""
    delivery_s: float = 12 * HOUR_S
    """Time for which any result can be opened at least, unless its lane has a time of its own."""

    @property
    def ahead_s(self) -> float:
        """Time by which a key is published before its epoch begins: one epoch."""
        return self.length_s

    @property
    def life_s(self) -> float:
        """Time from the publication of a key to its death."""
        return self.promise_s - self.clock_error_s - self.destruction_s

    @property
    def window_s(self) -> float:
        """Shortest time for which an upload can be opened: one from the end of its epoch.

        The uploader's clock may be behind, and the opener's ahead.
        """
        return self.life_s - self.ahead_s - self.length_s - self.clock_error_s

    @property
    def worst_age_s(self) -> float:
        """Largest age of an upload when its key is destroyed."""
        return self.life_s + self.clock_error_s + self.destruction_s

    def number(self, at: datetime) -> int:
        """Return the epoch of an upload of this time."""
        return math.floor(at.timestamp() / self.length_s)

    def offered(self, at: datetime) -> range:
        """Return the epochs whose keys are published: that of this time and the next."""
        first = self.number(at)
        return range(first, first + 2)

    def begins(self, number: int) -> datetime:
        """Return when an epoch begins."""
        return datetime.fromtimestamp(number * self.length_s, UTC)

    def published(self, number: int) -> datetime:
        """Return when the keys of an epoch are published."""
        return datetime.fromtimestamp(number * self.length_s - self.ahead_s, UTC)

    def dies(self, number: int) -> datetime:
        """Return when the keys of an epoch die: from then on no role gets them."""
        return datetime.fromtimestamp(self._dies_s(number), UTC)

    def is_dead(self, number: int, at: datetime) -> bool:
        """Return whether the keys of an epoch are dead."""
        return at.timestamp() >= self._dies_s(number)

    def is_due(self, number: int, at: datetime) -> bool:
        """Return whether the keys of an epoch are to be destroyed: dead, or of no epoch of ours.

        Epochs are counted in their length.  After that was changed, the numbers of before are of
        other years, and keys of the future ones would never die.
        """
        return self.is_dead(number, at) or number > self.number(at) + self.promise_s / self.length_s

    def _dies_s(self, number: int) -> float:
        return number * self.length_s - self.ahead_s + self.life_s


def verify(times: EpochTimes, policy: Policy, lanes: tuple[LaneTimes, ...]) -> None:
    """Check both inequalities.  Raises `PromiseExceeded` with the sum that fails."""
    # Negated, so that NaN is refused.
    if not (times.length_s > 0 and times.destruction_s > 0 and times.clock_error_s >= 0):
        raise PromiseExceeded("keys: epoch and destruction must last longer than 0 s")
    if not times.worst_age_s <= min(policy.promise_s, PROMISE_S):
        raise PromiseExceeded(
            f"keys: an upload is up to {times.worst_age_s:.0f} s old when its key is destroyed, "
            f"allowed {min(policy.promise_s, PROMISE_S):.0f} s"
        )
    for lane in lanes:
        delivery_s = times.delivery_s if lane.delivery_s is None else lane.delivery_s
        needed_s = appended_age_s(policy, lane) + max(delivery_s, policy.sink_outage_s)
        if not times.window_s >= needed_s:
            raise PromiseExceeded(
                f"keys: an upload can be opened for {times.window_s:.0f} s, needed "
                f"{needed_s:.0f} s; shorten epochs, the backlog limit, delivery or the sink's "
                "outage"
            )
