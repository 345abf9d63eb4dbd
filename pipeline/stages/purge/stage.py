"""The stage of the early purge: what is no longer needed goes before its time is up."""

import logging
import threading
import time
from collections.abc import Callable

from erasestream.schemas.errors import Unavailable
from erasestream.topics.admin.record_purge import RecordPurger

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
TURN_S = 0.5


class PurgerStage:
    """Purges once a minute; brokers that are away are waited for, and said so once."""

    def __init__(
        self,
        *,
        purge: RecordPurger,
        stopping: threading.Event,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._purge = purge
        self._stopping = stopping
        self._interval_s = interval_s
        self._clock = clock
        self._next_s = clock()
        self._is_waiting = False
        self._has_purged = False

    def run_once(self) -> None:
        """Purge if it is time, else wait a little."""
        if self._clock() < self._next_s:
            self._stopping.wait(TURN_S)
            return
        self._next_s = self._clock() + self._interval_s
        try:
            count = self._purge.purge_once()
        except Unavailable as error:
            if not self._is_waiting:
                log.warning("waiting", extra={"code": error.code, "reason": error.detail})
            self._is_waiting = True
            return
        self._is_waiting = False
        self._has_purged = True
        if count:
            log.info("purged", extra={"count": count})

    def is_ready(self) -> bool:
        """Whether a purge has gone through."""
        return self._has_purged

    def close(self) -> None:
        """There is nothing to finish: the next purge sees what this one saw."""
