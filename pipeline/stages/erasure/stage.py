"""The eraser as a stage: turn a revocation into a marker in the vault, and delete what is held.

For every decision, in this order:

1. Catch up with the lanes' ledgers, which have every decision before it counts.  A decision whose
   entry is missing waits (`pending_decisions.py`).
2. Create the marker `erased/<grant>` of each grant that the decision ends (`ended_grants.py`) and
   that is not erased yet; once the marker exists, no key of that grant is used any more.
3. Write the erasure to the lane's ledger, for the record, and then to `erasures.L`, to which only
   the eraser can write.  That *confirms* the revocation (`grant_eraser.py`).
4. Commit the offset.  A crash before that repeats the steps, which are idempotent.

A decision that cannot be done because a partition or the vault is unavailable is retried in a
later turn.  Only its offset, and those after it in its partition, are committed later; all other
decisions proceed.

Operators' revocations are read from `revocations.L`, and are decisions as those in `consent.L`.

Lanes share nothing but turns.  A turn evaluates up to `DECISIONS_PER_TURN` of each lane and erases
up to `GRANTS_PER_TURN` of each; of a lane with `MAX_PENDING` decisions no more are read.

Keys and objects of marked grants are deleted meanwhile, in threads (`deletions.py`).  Once the
master keys that wrapped the keys are destroyed, too, that is written (`unrecoverable_grants.py`).
Owners' requests to erase single uploads are read from `ledger.L` (`upload_eraser.py`).

The stage also writes the heartbeats of the consent topics (`runtime/heartbeat_schedule.py`).
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

from erasestream.pipeline.runtime.heartbeat_schedule import HeartbeatSchedule
from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser
from erasestream.pipeline.stages.erasure.lane_queues import LaneQueues
from erasestream.pipeline.stages.erasure.missing_entries import MissingEntries
from erasestream.pipeline.stages.erasure.pending_decisions import (
    DecisionEvaluator,
    OffsetTracker,
    Pending,
    PendingDecision,
    share_of_each_lane,
)
from erasestream.pipeline.stages.erasure.upload_eraser import UploadEraser
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.catalog.topic_names import (
    consent_of,
    erasures_of,
    lane_of,
    ledger_of,
    revocations_of,
)
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.records import Partition, Record

BATCH = 500
"""Records of one read."""
DECISIONS_PER_TURN = 100
"""Decisions of one lane that are evaluated in one turn."""
MAX_PENDING = 1_000
"""Decisions of one lane that may be pending; beyond that no more are read of this lane."""
CATCH_UP_S = 5.0
LOOK_S = 0.5
"""Interval at which `erasures.L` is read for grants to delete, this eraser's and others'."""


class DeletionRound(Protocol):
    """Deletes what is retained under marked grants (`Deletions`)."""

    def run_once(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        """Go on with the unfinished erasures."""

    def metrics(self) -> str:
        """Return metrics in the text format of Prometheus."""


class UnrecoverableRound(Protocol):
    """Writes that grants are unrecoverable (`UnrecoverableGrants`)."""

    def run_once(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        """Write those that have become so."""


class EraserStage:
    """Erases revoked grants, in turns."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        ledger: LedgerView,
        eraser: GrantEraser,
        missing: MissingEntries,
        deletions: DeletionRound,
        unrecoverable: UnrecoverableRound,
        uploads: UploadEraser,
        outage: OutageLog,
        beat: Callable[[], None],
        beat_every_s: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._eraser = eraser
        self._missing = missing
        self._deletions = deletions
        self._unrecoverable = unrecoverable
        self.uploads: UploadEraser = uploads
        self._outage = outage
        self._clock = clock
        self._heartbeats = HeartbeatSchedule(beat=beat, every_s=beat_every_s, clock=clock)
        self._evaluator = DecisionEvaluator(
            history=ledger.grants, missing=missing, outage=outage, clock=clock
        )
        self._offsets = OffsetTracker()
        self._pending = LaneQueues(limit=MAX_PENDING)
        self._erasures = [
            at for at in ledger.partitions if at.topic == erasures_of(lane_of(at.topic))
        ]
        self._look = Deadline(0, clock)
        self._wait_s = 0.0
        """How long the next turn waits for records: not at all if this one completed anything."""

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Do one turn."""
        self._heartbeats.run_if_due()
        records = self._read(self._wait_s)
        decisions = [each for each in records if not self.uploads.add(each)]
        read = map(PendingDecision.of, decisions)
        self._pending.add(each for each in read if each is not None)
        turn = self._pending.take(DECISIONS_PER_TURN)
        remaining = self._process(turn) if turn else []
        self._pending.add(remaining)
        self._delete()
        undone: Iterator[Pending] = chain(self._pending, self.uploads.pending)
        self._queue.commit_below(self._offsets.advance(records, undone))
        is_unavailable = self._outage.end_round()
        if len(remaining) < len(turn):
            self._wait_s = 0.0
        else:
            self._wait_s = RETRY_S if is_unavailable else timeout_s

    def is_ready(self) -> bool:
        """Return whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Do nothing: decisions that are not committed are redelivered."""

    def metrics(self) -> str:
        """Return how many grants are left to be deleted."""
        return self._deletions.metrics()

    @property
    def pending(self) -> list[PendingDecision]:
        """Return the decisions that are read and not done."""
        return list(self._pending)

    @property
    def count(self) -> int:
        """Return how many grants were erased."""
        return self._eraser.count

    def _read(self, timeout_s: float) -> list[Record]:
        full = self._pending.full()
        paused = [name(lane) for name in (consent_of, revocations_of) for lane in full]
        self._queue.pause([*paused, *map(ledger_of, self.uploads.full())])
        return self._queue.read(timeout_s=timeout_s, most=BATCH)

    def _delete(self) -> None:
        if self._look.has_passed:
            shown = self._ledger.catch_up(self._erasures, deadline_s=CATCH_UP_S)
            self._deletions.run_once(self._ledger.unfinished, shown)
            self._unrecoverable.run_once(self._ledger.unfinished, shown)
            self.uploads.run_once(shown)
            self._look = Deadline(LOOK_S, self._clock)

    def _process(self, turn: list[PendingDecision]) -> list[PendingDecision]:
        """Evaluate decisions and erase what they end; return those that are not done."""
        places = [self._eraser.places(*each.decision[:2]) for each in turn]
        shown = self._ledger.catch_up(set(chain.from_iterable(places)), deadline_s=CATCH_UP_S)
        evaluated = [
            self._evaluator.evaluate(each, entries, shown)
            for each, (entries, _) in zip(turn, places, strict=True)
        ]
        self._missing.write()
        ended = share_of_each_lane(evaluated)
        erased = self._eraser.erase(ended, history=self._ledger.grants, shown=shown)
        return [
            each.pending
            for each in evaluated
            if each.ended is None or not erased.issuperset(each.ended)
        ]
