"""The eraser's first step as a stage: turn a revocation into a marker in the vault.

For every decision, in this order:

1. Catch up with the lanes' ledgers, which have every decision before it counts.  A decision whose
   entry is missing waits (`pending_decisions.py`).
2. Create the marker `erased/<grant>` of each grant that the decision ends (`ended_grants.py`) and
   that is not erased yet; once the marker exists, no key of that grant is used any more.
3. Write the erasure to the lane's ledger, for the record, and then to `erasures.L`, to which only
   the eraser can write.  That *confirms* the revocation (`grant_eraser.py`).
4. Commit the offset.  A crash before that repeats the steps, which are idempotent.

A decision that cannot be done because a partition or the vault is unavailable is retried in the
next round.  Only its offset, and those after it in its partition of `consent.L`, are committed
later; all other decisions proceed.

The stage also writes the heartbeats of the consent topics (`heartbeat_schedule.py`).
"""

import threading
import time
from collections.abc import Callable
from itertools import chain

from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser
from erasestream.pipeline.stages.erasure.heartbeat_schedule import HeartbeatSchedule
from erasestream.pipeline.stages.erasure.pending_decisions import (
    DecisionEvaluator,
    OffsetTracker,
    PendingDecision,
)
from erasestream.schemas.clocks import Clock
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.kafka.consumer.work_queue import WorkQueue

BATCH = 100
CATCH_UP_S = 5.0
MAX_PENDING = 10_000
"""Decisions that may be pending; beyond that no more are read, in any lane."""


class EraserStage:
    """Erases revoked grants, in rounds of one batch and all pending decisions."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        ledger: LedgerView,
        eraser: GrantEraser,
        findings: LedgerFindings,
        outage: OutageLog,
        beat: Callable[[], None],
        beat_every_s: float,
        stopping: threading.Event,
        clock: Clock = time.monotonic,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._eraser = eraser
        self._findings = findings
        self._outage = outage
        self._stopping = stopping
        self._heartbeats = HeartbeatSchedule(beat=beat, every_s=beat_every_s, clock=clock)
        self._evaluator = DecisionEvaluator(
            eraser=eraser, findings=findings, outage=outage, clock=clock
        )
        self._offsets = OffsetTracker()
        self.pending: list[PendingDecision] = []

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Do one round."""
        self._heartbeats.run_if_due()
        self._findings.write_one()
        work = [*self.pending, *self._read(timeout_s)]
        if not work:
            return
        shown = self._ledger.catch_up(deadline_s=CATCH_UP_S)
        history = self._ledger.grants
        evaluated = [self._evaluator.evaluate(each, history, shown) for each in work]
        ended = chain.from_iterable(each.ended or () for each in evaluated)
        erased = self._eraser.erase(ended, history=history, shown=shown)
        self.pending = [
            each.pending
            for each in evaluated
            if each.ended is None or not erased.issuperset(each.ended)
        ]
        done = self._offsets.advance((each.record for each in work), self.pending)
        self._queue.commit_below(done)
        if self._outage.end_round():
            self._stopping.wait(RETRY_S)

    def is_ready(self) -> bool:
        """Return whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Do nothing: decisions that are not committed are redelivered."""

    @property
    def count(self) -> int:
        """Return how many grants were erased."""
        return self._eraser.count

    def _read(self, timeout_s: float) -> list[PendingDecision]:
        if len(self.pending) >= MAX_PENDING:
            self._stopping.wait(timeout_s)
            return []
        records = self._queue.read(timeout_s=timeout_s, most=BATCH)
        return [PendingDecision(record) for record in records]
