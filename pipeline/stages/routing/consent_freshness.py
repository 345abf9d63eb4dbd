"""Hold results back until the consent view is as fresh as they are.

Rules, all of them:

1. The mark, the end offsets of all decisions, is taken after the results were read.  It covers
   all partitions of all lanes, so it serves for every result of a read.
2. `FreshnessBarrier` compares the mark with what the view has applied.
3. While a transaction may be open, the mark is waited for no longer than `MARK_TIMEOUT_S`;
   without it the results are not fresh, and the loop commits first.
4. Waiting has no time limit: it retries while the brokers are unavailable, is logged once, and
   ends with `Unavailable` only when the stage is to stop.
"""

import threading

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.pipeline.stages.routing.freshness_barrier import FreshnessBarrier, Verdict
from erasestream.pipeline.stages.routing.ports import FreshConsent
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Partition

MARK_TIMEOUT_S = 2.0
"""Longest wait for the mark while a transaction may be open."""
CATCH_UP_S = 1.0
"""Longest attempt to catch up before the stage looks whether it is to stop."""
RETRY_S = 0.1


class ConsentFreshness:
    """Compares a consent view with the brokers, and waits for it."""

    def __init__(self, *, view: FreshConsent, stopping: threading.Event) -> None:
        self._view = view
        self._retry = RetryUntilStopped(stopping, retry_s=RETRY_S, event="waiting_for_consent")
        self._barrier: FreshnessBarrier[Partition] = FreshnessBarrier()
        self._mark: Mark | None = None

    def is_fresh(self) -> bool:
        """Take a mark, and return whether the view has applied every decision below it."""
        try:
            self._mark = self._view.mark(timeout_s=MARK_TIMEOUT_S)
        except Unavailable:
            self._mark = None
            return False
        verdict = self._barrier.check(mark=self._mark, applied=self._view.read())
        return verdict is Verdict.DECIDE

    def wait_until_fresh(self) -> None:
        """Wait until the view has applied every decision below the mark that was taken last.

        If none was taken, take one.
        """
        self._retry.call(self._catch_up)

    def _catch_up(self) -> None:
        if self._mark is None:
            self._mark = self._view.mark()
        self._view.catch_up(self._mark, deadline_s=CATCH_UP_S)
