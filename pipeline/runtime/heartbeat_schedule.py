"""Schedule of the heartbeats of compacted topics (`topics/consent/compaction_heartbeat.py`)."""

import logging
from collections.abc import Callable

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable

log: logging.Logger = logging.getLogger(__name__)

MISSED_RETRY_S = 60.0
"""Pause before a missed heartbeat is written again."""


class HeartbeatSchedule:
    """Writes heartbeats when they are due.

    One that cannot be written is missed and due again soon: an unavailable partition
    must not hold up the stage.
    """

    def __init__(self, *, beat: Callable[[], None], every_s: float, clock: Clock) -> None:
        self._beat = beat
        self._every_s = every_s
        self._clock = clock
        self._due = Deadline(0, clock)

    def run_if_due(self) -> None:
        """Write the heartbeats, if they are due."""
        if not self._due.has_passed:
            return
        wait_s = self._every_s
        try:
            self._beat()
        except Unavailable as error:
            log.warning("beat_missed", extra={"code": error.code, "reason": error.detail})
            wait_s = min(MISSED_RETRY_S, self._every_s)
        self._due = Deadline(wait_s, self._clock)
