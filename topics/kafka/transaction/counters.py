"""Count committed and aborted transactions, and log them.

Each abort is a log line of its own, with its code.  Commits are logged as totals, at most every
ten seconds and when the stage ends.
"""

import logging
import time

from erasestream.schemas.clocks import Clock

log: logging.Logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


class TransactionCounters:
    """The transactions of one loop."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self.committed: int = 0
        self.aborted: int = 0
        self.records: int = 0
        """Records that were handled in committed transactions."""
        self._clock = clock
        self._logged = 0
        self._logged_at_s = clock()

    def commit(self, records: int) -> None:
        """Count a commit of this many records."""
        self.committed += 1
        self.records += records
        if self._clock() - self._logged_at_s >= LOG_EVERY_S:
            self.log_totals()

    def abort(self, code: str) -> None:
        """Count and log an abort."""
        self.aborted += 1
        log.warning("transaction_aborted", extra={"code": code, **self._counts()})

    def log_totals(self) -> None:
        """Log the totals, if there was a commit since they were logged."""
        if self._logged < self.committed:
            log.info("transactions", extra={"count": self.records, **self._counts()})
        self._logged, self._logged_at_s = self.committed, self._clock()

    def _counts(self) -> dict[str, int]:
        return {"committed": self.committed, "aborted": self.aborted}
