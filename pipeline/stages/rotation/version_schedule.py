"""When the master key needs another version, and when an older one is no longer used.

Rules:

* A version is added once the last one is older than the interval, and at most one in an interval
  by this process, even if its clock is wrong.
* A version under which two keys of one grant cannot be joined is followed by another at once,
  unless a later one exists: that one may not be enabled yet.
* No key is created under an older version `settle_s` after this process first saw the newest one.
"""

from collections.abc import Sequence
from datetime import timedelta

from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.sinks.keys.keyring import MasterVersion


class VersionSchedule:
    """The newest version, and since when this process has known it."""

    def __init__(
        self,
        *,
        interval: timedelta,
        settle_s: float,
        now: WallClock,
        clock: Clock,
    ) -> None:
        """`settle_s`: time after which no sink creates a key under an older version."""
        self._interval = interval
        self._settle_s = settle_s
        self._now = now
        self._clock = clock
        self._newest = ""
        self.settled = Deadline(0, clock)
        """Passed once nothing is created under a version older than the newest."""
        self._may_add = Deadline(0, clock)
        self._conflict = ""
        """The version under which two keys of one grant cannot be joined."""

    def needs_version(self, history: Sequence[MasterVersion], newest: str) -> bool:
        """Return whether to add a version; `newest`: the newest that is enabled."""
        if self._conflict == newest == history[-1].name:  # a later one may not be ready yet
            return True
        created = history[-1].created
        is_old = created is not None and self._now() - created >= self._interval
        return is_old and self._may_add.has_passed

    def added(self) -> None:
        """Add no other version within the interval."""
        self._may_add = Deadline(self._interval.total_seconds(), self._clock)

    def follow(self, newest: str) -> None:
        """Wait again until nothing is created under an older version, if this one is new."""
        if newest != self._newest:
            self._newest, self.settled = newest, Deadline(self._settle_s, self._clock)

    def note_conflict(self) -> None:
        """Ask for a version after the newest, under which two keys cannot be joined."""
        self._conflict = self._newest
