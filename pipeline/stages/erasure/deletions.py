"""Delete what was retained under marked grants, then write that it is gone.

The grants are those in `erasures.L` that have an `ErasureEntry` and no `GrantErased`, so that the
next eraser goes on with what this one leaves, wherever it was killed.  For each grant:

1. Delete its keys and its objects, a page at a time (`sinks/images/deletion.py`).
2. Wait until the last put that a sink began before it could see the marker has ended: cache limit
   and put deadline after this process knew of the marker.
3. List and delete again, until a look that began after that time finds nothing.
4. Write `GrantErased` to `erasures.L`, with the time of that look.

Up to `MAX_GRANTS` at the same time, lanes in turn and the accounts of each, new grants first: one
that has many objects, or many grants, delays no other.  Decisions wait for none of this.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import EndedGrant
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries
from erasestream.pipeline.stages.erasure.passes import in_turn, take_result
from erasestream.pipeline.stages.erasure.progress_reports import Progress, ProgressReports
from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.events.ledger import ErasureEntry, GrantErased, KeyState
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_event_id
from erasestream.sinks.images.deletion import MAX_OBJECTS, Deleted, Found
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasure, UnfinishedErasures
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

MAX_GRANTS = 4
"""Grants whose objects are listed and deleted at the same time."""
GAUGE = "erasestream_erasures_unfinished"


class Deletion(Protocol):
    """Deletes what is retained under one grant (`GrantDeletion`)."""

    def delete(self, grant: GrantId, owner: str) -> Found:
        """Delete keys and a page of objects.  Raises `Unavailable`."""

    def count(self, grant: GrantId, owner: str) -> int:
        """Return how many objects there are.  Raises `Unavailable`."""

    def deleted(self, grant: GrantId) -> Deleted:
        """Return all that was ever deleted.  Raises `Unavailable`."""


@dataclass
class _Work:
    """The erasure of one grant."""

    entry: ErasureEntry
    begun_s: float
    settled: Deadline
    """When the last put has ended that began before its sink could see the marker."""
    next: Deadline
    running: Future[None] | None = None
    passes: int = 0
    progress: Progress | None = None
    wire: Wire | None = None
    """The entry to write, once keys and objects are gone."""
    objects: int = 0

    @property
    def ended(self) -> EndedGrant:
        return EndedGrant(self.entry.lane, self.entry.account, self.entry.grant)


class _Passes:
    """Deletes, counts and looks, in threads."""

    def __init__(
        self, deletion: Deletion, owner_of: Callable[[Lane, AccountId], str], now: WallClock
    ) -> None:
        self._deletion = deletion
        self._owner_of = owner_of
        self._now = now

    def run(self, work: _Work) -> None:
        """Delete the keys and a page of objects; end the work once a late look finds nothing."""
        is_settled = work.settled.has_passed
        entry = work.entry
        work.passes += 1
        owner = self._owner_of(entry.lane, entry.account)
        found = self._deletion.delete(entry.grant, owner)
        work.progress = self._progress(work, found, owner)
        if found.objects < MAX_OBJECTS and not is_settled:
            work.next = work.settled
        elif found == (0, 0):
            seen = self._now()
            deleted = self._deletion.deleted(entry.grant)
            work.objects = deleted.objects
            work.wire = to_wire(_end(entry, deleted, seen), source="/eraser")

    def _progress(self, work: _Work, found: Found, owner: str) -> Progress:
        """Count all objects once, and then down; none is left after less than a page.

        A pass that failed may have deleted some of its page, which no later pass finds.  They are
        deleted, too.
        """
        if work.progress is None:
            grant = work.entry.grant
            left = self._deletion.count(grant, owner) if found.objects == MAX_OBJECTS else 0
            return Progress(self._deletion.deleted(grant).objects, left)
        deleted, left = work.progress
        total = deleted + max(left, found.objects)
        left = 0 if found.objects < MAX_OBJECTS else max(0, left - found.objects)
        return Progress(total - left, left)


class Deletions:
    """Works through the unfinished erasures; `owner_of` returns the owner in objects' names."""

    def __init__(
        self,
        *,
        deletion: Deletion,
        owner_of: Callable[[Lane, AccountId], str],
        entries: GrantEntries,
        settle_s: float,
        reports: ProgressReports,
        outage: OutageLog,
        clock: Clock = time.monotonic,
        now: WallClock = utc_now,
    ) -> None:
        """`settle_s`: cache limit and put deadline of the sinks."""
        self._passes = _Passes(deletion, owner_of, now)
        self._entries = entries
        self._reports = reports
        self._settle_s = settle_s
        self._outage = outage
        self._clock = clock
        self._works: dict[GrantId, _Work] = {}
        self._pool = ThreadPoolExecutor(MAX_GRANTS, thread_name_prefix="erase")
        self._lock = threading.Lock()
        self._unfinished: Counter[str] = Counter()
        self.count: int = 0
        """Number of grants whose erasure was finished."""

    def run_once(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        """Begin what can begin, and write what is done; do not wait for the buckets.

        `shown` are the partitions that were read up to their ends.
        """
        left = unfinished.all()
        self._follow(left, shown)
        for work in self._works.values():
            take_result(work, self._outage, self._clock)
        self._write(unfinished, shown)
        self._report(shown)
        self._begin()
        with self._lock:
            self._unfinished = Counter(dict.fromkeys(self._unfinished, 0))
            self._unfinished.update(each.entry.lane for each in left)

    def metrics(self) -> str:
        """Return how many grants of each lane are left, in the text format of Prometheus."""
        with self._lock:
            counts = sorted(self._unfinished.items())
        lines = [
            f"# HELP {GAUGE} Marked grants whose keys and objects are not known to be deleted.",
            f"# TYPE {GAUGE} gauge",
            *(f'{GAUGE}{{lane="{lane}"}} {count}' for lane, count in counts),
        ]
        return "\n".join([*lines, ""])

    def close(self) -> None:
        """Stop the threads; what is not done is begun again by the next eraser."""
        self._pool.shutdown(cancel_futures=True)

    def _follow(self, left: list[UnfinishedErasure], shown: set[Partition]) -> None:
        """Add new erasures, and drop those that another eraser has finished."""
        grants = {each.entry.grant for each in left}
        for grant in [g for g, work in self._works.items() if g not in grants and not work.running]:
            del self._works[grant]
        for at, entry in left:
            # A partition that is still being read may have the end of what looks unfinished.
            if at in shown and entry.grant not in self._works:
                settled = Deadline(self._settle_s, self._clock)
                work = _Work(entry, self._clock(), settled, Deadline(0, self._clock))
                self._works[entry.grant] = work

    def _report(self, shown: set[Partition]) -> None:
        progress = {work.ended: work.progress for work in self._works.values()}
        self._reports.write({each: p for each, p in progress.items() if p is not None}, shown)

    def _begin(self) -> None:
        for work in in_turn(self._works.values(), lambda work: work.ended, MAX_GRANTS):
            work.running = self._pool.submit(self._passes.run, work)

    def _write(self, unfinished: UnfinishedErasures, shown: set[Partition]) -> None:
        done = {work.ended: work for work in self._works.values() if work.wire is not None}
        wires = {ended: work.wire for ended, work in done.items() if work.wire is not None}
        if not wires:
            return
        for ended in self._entries.write(erasures_of, wires, shown):
            work = self._works.pop(ended.grant)
            unfinished.finish(ended.grant)
            self.count += 1
            seconds = round(self._clock() - work.begun_s, 1)
            fields = {"lane": ended.lane, "count": work.objects, "seconds": seconds}
            log.info("grant_erased", extra=fields)


def _end(entry: ErasureEntry, deleted: Deleted, seen: datetime) -> GrantErased:
    return GrantErased(
        id=new_event_id(seen, os.urandom(10)),
        time=seen,
        lane=entry.lane,
        account=entry.account,
        grant=entry.grant,
        # Entries of earlier versions name no decision.
        decision=entry.decision or entry.id,
        recorded=entry.recorded or entry.time,
        confirmed=entry.time,
        objects=deleted.objects,
        objects_root=deleted.objects_root,
        keys=deleted.keys,
        state=KeyState.UNREACHABLE,
    )
