"""Decisions that are read and not done, in a bounded queue for each lane.

A turn takes a few of each lane, so that a lane with many holds up no other.  A decision that is
not done goes to the end of its lane's queue, and holds up none of its own lane.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from erasestream.pipeline.stages.erasure.pending_decisions import PendingDecision
from erasestream.schemas.ids import Lane


class LaneQueues:
    """Queues of up to `limit` decisions, exceeded by those of one read at most."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._queues: defaultdict[Lane, deque[PendingDecision]] = defaultdict(deque)
        self._full: set[Lane] = set()

    def add(self, decisions: Iterable[PendingDecision]) -> None:
        """Add decisions at the ends of their lanes' queues."""
        for each in decisions:
            self._queues[each.decision.lane].append(each)

    def take(self, most: int) -> list[PendingDecision]:
        """Remove up to so many decisions of each lane: those at the heads of the queues."""
        return [
            queue.popleft() for queue in self._queues.values() for _ in range(min(most, len(queue)))
        ]

    def full(self) -> set[Lane]:
        """Return the lanes to read nothing of: from the limit on, until half of it is done."""
        for lane, queue in self._queues.items():
            if len(queue) >= self._limit:
                self._full.add(lane)
            elif len(queue) <= self._limit // 2:
                self._full.discard(lane)
        return set(self._full)

    def __iter__(self) -> Iterator[PendingDecision]:
        for queue in self._queues.values():
            yield from queue

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))
