"""How many transactions were committed and how many undone, said as they come to be.

Each that is undone is a line of its own, with the reason; of the others the log has the sum,
every ten seconds at most and when the stage leaves.
"""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SAID_EVERY_S = 10.0


class TransactionCounters:
    """The transactions of one loop since it was made."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.committed = 0
        self.aborted = 0
        self.records = 0
        """Records that were handled in those that were committed."""
        self._clock = clock
        self._said = 0
        self._said_at = clock()

    def commit(self, records: int) -> None:
        """One was committed, and so many records with it."""
        self.committed += 1
        self.records += records
        if self._clock() - self._said_at >= SAID_EVERY_S:
            self.say()

    def abort(self, code: str) -> None:
        """One was undone."""
        self.aborted += 1
        log.warning("transaction_aborted", extra={"code": code, **self._counts()})

    def say(self) -> None:
        """The sums, if there is anything new."""
        if self._said < self.committed:
            log.info("transactions", extra={"count": self.records, **self._counts()})
        self._said, self._said_at = self.committed, self._clock()

    def _counts(self) -> dict[str, int]:
        return {"committed": self.committed, "aborted": self.aborted}
