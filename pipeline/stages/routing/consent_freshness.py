"""Tell for which lanes the consent view is as fresh as the results that were read.

Rules, all of them:

1. A lane's mark, the end offsets of its decisions, is taken after its results were read; one
   request serves all lanes of a read (`grouped_ends.py`).
2. `FreshnessBarrier` compares the mark with what the view has applied.  A lane waits for its own
   decisions only: no other lane's, whatever they are.
3. The marks are waited for no longer than `MARK_TIMEOUT_S`.  A lane without one is not fresh, and
   is asked about again after `RETRY_S`; its brokers delay no other lane's until then.
4. A lane whose decisions went back is broken, and the view reads all of them again: its topic was
   created again, or a leader lost records.
5. A lane that waits longer than `LOGGED_AFTER_S` is logged, once.
"""

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from erasestream.pipeline.stages.routing.freshness_barrier import (
    FreshnessBarrier,
    Verdict,
    WentBack,
)
from erasestream.pipeline.stages.routing.ports import FreshConsent
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import consent_of, lane_of
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

MARK_TIMEOUT_S = 1.0
"""Longest wait for the marks: a transaction may be open."""
RETRY_S = 1.0
LOGGED_AFTER_S = 5.0


@dataclass
class _LaneState:
    """One lane: its barrier, its mark, and since when it waits."""

    barrier: FreshnessBarrier[Partition] = field(default_factory=FreshnessBarrier)
    mark: Mark | None = None
    retry: Deadline | None = None
    """When the mark is asked for again, if there is none."""
    logged: Deadline | None = None
    """When the waiting is logged; None if the lane does not wait."""
    is_logged: bool = False


class ConsentFreshness:
    """Compares the lanes of a consent view with the brokers."""

    def __init__(self, *, view: FreshConsent, clock: Clock = time.monotonic) -> None:
        self._view = view
        self._clock = clock
        self._lanes: dict[Lane, _LaneState] = {}

    def on_read(self, partitions: Collection[Partition]) -> None:
        """Take the marks of the lanes of which these partitions were just read."""
        lanes = {lane_of(at.topic) for at in partitions}
        states = {lane: self._lanes.setdefault(lane, _LaneState()) for lane in lanes}
        for state in states.values():
            state.mark = None
        self._take_marks([lane for lane in lanes if _may_ask(states[lane])])
        self._view.read()

    def is_fresh(self, at: Partition) -> bool:
        """Return whether the view has applied every decision below the mark of the lane.

        Raises `PartitionBroken` for this partition if the lane's decisions went back.
        """
        lane = lane_of(at.topic)
        state = self._lanes.setdefault(lane, _LaneState())
        if state.mark is None and _may_ask(state):
            self._take_marks([lane])
        try:
            is_fresh = self._has_reached_mark(lane, state)
        except WentBack as error:
            self._lanes[lane] = _LaneState()
            self._view.reread(lane)
            raise PartitionBroken(at, Defect.CONSENT_WENT_BACK, error.detail) from error
        self._log(lane, state, is_fresh=is_fresh)
        return is_fresh

    def _take_marks(self, lanes: Collection[Lane]) -> None:
        if not lanes:
            return
        marks = self._view.marks(lanes, timeout_s=MARK_TIMEOUT_S)
        for lane in lanes:
            state = self._lanes[lane]
            state.mark = marks.get(lane)
            state.retry = None if lane in marks else Deadline(RETRY_S, self._clock)

    def _has_reached_mark(self, lane: Lane, state: _LaneState) -> bool:
        if state.mark is None:
            return False
        if self._verdict(lane, state, state.mark) is Verdict.WAIT:
            self._view.read()
        return self._verdict(lane, state, state.mark) is Verdict.DECIDE

    def _verdict(self, lane: Lane, state: _LaneState, mark: Mark) -> Verdict:
        return state.barrier.check(mark=mark, applied=self._view.applied(lane))

    def _log(self, lane: Lane, state: _LaneState, *, is_fresh: bool) -> None:
        if is_fresh:
            state.logged, state.is_logged = None, False
            return
        state.logged = state.logged or Deadline(LOGGED_AFTER_S, self._clock)
        if state.logged.has_passed and not state.is_logged:
            log.warning("waiting_for_consent", extra={"topic": consent_of(lane)})
            state.is_logged = True


def _may_ask(state: _LaneState) -> bool:
    return state.retry is None or state.retry.has_passed
