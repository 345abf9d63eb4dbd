"""Raise the alarm once a picture has not been stored for half of its life in `retained`.

Afterwards there is as much time left to repair bucket, vault or keys as has passed.  The alarm is a
line in the log, once for each time, and a gauge.
"""

import logging

from erasestream.schemas.clocks import WallClock, utc_now

log: logging.Logger = logging.getLogger(__name__)

AGE = "erasestream_sink_oldest_unstored_seconds"
ALARM = "erasestream_sink_alarm"
PURGED = "erasestream_sink_purged_total"


class UnstoredAlarm:
    """Watches the age of the oldest picture that is read and not stored."""

    def __init__(self, life_s: float, *, now: WallClock = utc_now) -> None:
        """`life_s`: how long a record of `retained` lives."""
        self._life_s = life_s
        self._now = now
        self._age_s = 0.0
        self.is_raised: bool = False
        self.purged: int = 0
        """Pictures whose lives have ended before they were stored."""

    def update(self, oldest_ms: int | None) -> None:
        """Compare the oldest picture's time of append; None if all are stored."""
        age_s = 0.0 if oldest_ms is None else self._now().timestamp() - oldest_ms / 1000
        self._age_s = max(0.0, age_s)
        was_raised, self.is_raised = self.is_raised, age_s >= self._life_s / 2
        if self.is_raised and not was_raised:
            log.error("retained_not_stored", extra={"seconds": round(age_s)})
        elif was_raised and not self.is_raised:
            log.warning("retained_stored_again", extra={"count": self.purged})

    def ended_ms(self) -> int:
        """Return when the records were appended whose lives end now."""
        return round((self._now().timestamp() - self._life_s) * 1000)

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        return (
            f"# HELP {AGE} Age of the oldest picture that is read and not stored.\n"
            f"# TYPE {AGE} gauge\n"
            f"{AGE} {self._age_s:.0f}\n"
            f"# HELP {ALARM} 1 while it is older than half of its life.\n"
            f"# TYPE {ALARM} gauge\n"
            f"{ALARM} {int(self.is_raised)}\n"
            f"# HELP {PURGED} Pictures whose lives have ended before they were stored.\n"
            f"# TYPE {PURGED} counter\n"
            f"{PURGED} {self.purged}\n"
        )
