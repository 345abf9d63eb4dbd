"""A local view of compacted topics, with a provable freshness mark.

`mark()` asks the brokers for the end offsets; once the view has caught up with the mark, it has
applied every record that was acknowledged before the request.

* The mark is the high watermark, and the view reads uncommitted: these topics hold single records
  outside transactions, and an acknowledged one must never be hidden behind an open transaction.
  Topics that are written in transactions are read committed (`isolation`).
* A record counts as applied once the caller's function has returned.
* The view is never ahead of the log: a record is applied whatever offset it claims, since the order
  of the records is the broker's; but an offset that cannot be true advances nothing
  (`applied_offsets.py`).
* The mark is one ListOffsets for all partitions (0.6 to 0.8 ms measured).
  `Consumer.get_watermark_offsets` takes 2 s beside a running fetch, and is not used.

One thread; the view reads only while one of its methods runs.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import TypeVar

from erasestream.schemas.clocks import Deadline
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.applied_offsets import AppliedOffsets
from erasestream.topics.kafka.consumer.assigned_consumer import UNCOMMITTED, AssignedConsumer
from erasestream.topics.kafka.consumer.awaited_ends import AwaitedEnds
from erasestream.topics.kafka.consumer.grouped_ends import GroupedEnds
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition, Record

Mark = Mapping[Partition, int]
"""Per partition the offset after the last record that counts."""

G = TypeVar("G")

ApplyAll = Callable[[Sequence[Record]], None]
"""Applies records that arrived together, in their order."""

POLL_S = 0.05

FETCH_WAIT_MS = 500
"""A new record ends the wait; only a view that is assigned other partitions waits for its end."""


def each(apply: Callable[[Record], None]) -> ApplyAll:
    """Return a function that applies records one by one."""

    def apply_all(records: Sequence[Record]) -> None:
        for record in records:
            apply(record)

    return apply_all


class CompactedView:
    """Reads topics from their beginning and hands every record to `apply`, in order."""

    def __init__(
        self,
        *,
        connection: Connection,
        topics: Mapping[str, int],
        apply: Callable[[Record], None],
        only: Callable[[Partition], bool] = lambda _partition: True,
        fetch_wait_ms: int = FETCH_WAIT_MS,
        isolation: str = UNCOMMITTED,
    ) -> None:
        """`topics`: their partition counts; `only` selects some of the partitions.

        `fetch_wait_ms`: how long a request waits at a broker that has no new record.
        """
        everything = (Partition(t, n) for t, count in topics.items() for n in range(count))
        with ExitStack() as opened:
            self._admin = opened.enter_context(Admin(connection))
            self._offsets = OffsetQueries(self._admin)
            self._consumer = AssignedConsumer(connection, fetch_wait_ms, isolation)
            opened.callback(self._consumer.close)
            self.assign(filter(only, everything), each(apply))
            opened.pop_all()

    def assign(
        self, partitions: Iterable[Partition], apply_all: ApplyAll, *, start: Mark | None = None
    ) -> None:
        """Read these partitions and no others, as a new view would, with the same clients.

        Begins at the log starts, or at the offsets of `start`, which names some or all of them.
        """
        self._apply_all = apply_all
        starts = dict(start or {})
        if unnamed := [at for at in partitions if at not in starts]:
            starts |= self._offsets.log_starts(unnamed)
        self._ends = AwaitedEnds(self._offsets)
        self._applied = AppliedOffsets(self._consumer, starts)
        self._consumer.assign(starts)

    def unassign(self) -> None:
        """Read nothing, and keep nothing, until the next `assign`."""
        self._consumer.unassign()
        self._apply_all, self._applied = _ignore, AppliedOffsets(self._consumer, {})

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """Return the end offsets.  Raises `Unavailable` if a leader does not answer."""
        return self._offsets.log_ends(self._applied.offsets, timeout_s=timeout_s)

    def grouped_ends(self, groups: Mapping[G, Sequence[Partition]]) -> GroupedEnds[G]:
        """Return an object that asks for the end offsets of some of these groups at a time."""
        return GroupedEnds(self._admin, groups)

    def reread(self, partitions: Iterable[Partition]) -> None:
        """Read some of the partitions again from the beginning."""
        self._applied.reread(partitions)

    @property
    def applied(self) -> Mark:
        """Per partition the offset after the last record that was applied."""
        return self._applied.offsets

    @property
    def forged(self) -> AbstractSet[Partition]:
        """Partitions in which a record claimed an offset that cannot be true."""
        return self._consumer.forged

    def read(self, timeout_s: float) -> int:
        """Apply what has arrived, waiting up to the timeout for the first; return how many."""
        records = list(self._consumer.records(timeout_s))
        self._apply_all(records)
        self._applied.record_all(records)
        return len(records)

    def advance(self) -> None:
        """Apply what has arrived, and pass offsets without records (compacted); do not wait."""
        if not self.read(0):
            self._applied.pass_gaps()
        self._applied.replace_if_renewed()

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply until nothing below the mark is missing; `Unavailable` after the deadline."""
        deadline = Deadline(deadline_s, time.monotonic)
        applied = self._applied
        while any(applied.offsets[at] < offset for at, offset in mark.items()):
            if not self.read(POLL_S) and not applied.have_reached(mark) and deadline.has_passed:
                error = self._consumer.explain("the view is behind its mark")
                applied.replace_if_lost()
                raise error

    def catch_up_reachable(
        self, partitions: Iterable[Partition], *, deadline_s: float
    ) -> set[Partition]:
        """Apply all that was acknowledged in these before this call, where the leader answers.

        Returns the partitions where that is done.  A partition whose leader does not answer, or
        that makes no progress, delays the others once.  After that it is asked and read, and hardly
        waited for, until it makes some.
        """
        asked = set(partitions)
        awaited, others = self._ends.ask(asked, deadline_s / 2)
        applied = self._applied
        before = dict(applied.offsets)
        deadline = Deadline(deadline_s / 2, time.monotonic)
        self.read(0)
        applied.pass_gaps()
        missing = applied.missing(awaited)
        while missing and not deadline.has_passed:
            if not self.read(POLL_S):
                applied.pass_gaps()
            missing = applied.missing(missing)
        applied.replace_if_lost()
        mark = {**awaited, **others}
        reached = {at for at, offset in mark.items() if applied.offsets[at] >= offset}
        stuck = {at for at in asked - reached if applied.offsets[at] == before[at]}
        self._ends.note_stuck(asked, stuck)
        return reached

    def replace_if_lost(self) -> None:
        """Replace a client that has lost its brokers; the new one reads on."""
        self._applied.replace_if_lost()

    def close(self) -> None:
        """Close the consumer and the admin client."""
        with self._admin:
            self._consumer.close()


def load(view: CompactedView, partitions: Iterable[Partition], *, silence_s: float) -> None:
    """Apply all that was acknowledged in these before this call, where the leader answers.

    However long it takes: ends early only once none of the others has made progress for so long.
    """
    left = set(partitions)
    while left:
        before = {at: view.applied[at] for at in left}
        left -= view.catch_up_reachable(left, deadline_s=2 * silence_s)
        if not any(view.applied[at] > before[at] for at in left):
            return


def _ignore(_records: Sequence[Record]) -> None:
    """Apply nothing: the view has no partitions."""
