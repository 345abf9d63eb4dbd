"""The purger as a stage: delete records that nothing needs any more, before they expire."""

import logging
import threading
import time

from erasestream.pipeline.runtime.quarantine import QuarantinedPartition, QuarantineRegistry
from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.admin.record_purge import RecordPurger

log: logging.Logger = logging.getLogger(__name__)

INTERVAL_S = 60.0


class PurgerStage:
    """Purges once per interval; while the brokers are unavailable, logs that once."""

    def __init__(
        self,
        *,
        purger: RecordPurger,
        quarantine: QuarantineRegistry,
        stopping: threading.Event,
        interval_s: float = INTERVAL_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._purger = purger
        self._quarantine = quarantine
        self._stopping = stopping
        self._interval_s = interval_s
        self._clock = clock
        self._due = Deadline(0, clock)
        self._outage = OutageLog()
        self._has_purged = False

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Purge if it is due, else wait up to the timeout."""
        if not self._due.has_passed:
            self._stopping.wait(self._due.slice_s(timeout_s))
            return
        self._due = Deadline(self._interval_s, self._clock)
        try:
            count = self._purger.purge_once()
        except Unavailable as error:
            self._outage.report(error)
        else:
            self._has_purged = True
            if count:
                log.info("purged", extra={"count": count})
        self._outage.end_round()

    def is_ready(self) -> bool:
        """Return whether a purge has succeeded."""
        return self._has_purged

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions that cannot be purged."""
        return self._quarantine.partitions()

    def close(self) -> None:
        """Do nothing: the next purge reads the same committed offsets."""
