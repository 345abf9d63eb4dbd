"""Erase single uploads whose owners asked for it, in the order of an erasure.

For each request, which the group reads from `ledger.L`:

1. Create the tombstone, and delete what is kept of the upload.  Write `UploadErased` (confirmed).
2. Wait until the last put that a sink began before it could see the tombstone has ended.
3. Look and delete again, until a look that began after that time finds nothing.
4. Write `UploadErased` (gone).  Only then is the request done, and its offset committed: the next
   eraser goes on with what this one leaves, wherever it was killed.  Repetitions are harmless.

Several at the same time, lanes in turn and the accounts of each.  A lane has up to `MAX_REQUESTS`
in memory; beyond that no more of its ledger are read here, and its revocations, which are other
topics', wait for none.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.grant_entries import OwnedEntries
from erasestream.pipeline.stages.erasure.passes import in_turn, take_result
from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, from_wire, to_wire, type_of
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.ledger import (
    UploadErased,
    UploadErasureRequested,
    UploadErasureState,
)
from erasestream.schemas.ids import AccountId, Lane, UploadId, new_event_id
from erasestream.sinks.images.deletion import MAX_OBJECTS
from erasestream.sinks.images.upload_deletion import DeletedUpload, KeptUpload
from erasestream.topics.catalog.topic_names import erasures_of, lane_of, ledger_of
from erasestream.topics.consent.ledger_place import belongs
from erasestream.topics.kafka.records import Partition, Record

log: logging.Logger = logging.getLogger(__name__)

MAX_UPLOADS = 4
"""Uploads whose objects are listed and deleted at the same time."""
MAX_REQUESTS = 1_000
"""Requests of one lane that may be pending; beyond that no more are read of this lane."""


class Deletion(Protocol):
    """Deletes what is kept of one upload (`UploadDeletion`)."""

    def mark(self, kept: KeptUpload) -> None:
        """Create the tombstone.  Raises `Unavailable`, as all do."""

    def delete(self, kept: KeptUpload) -> int:
        """Delete objects; return how many were there."""

    def deleted(self, kept: KeptUpload) -> DeletedUpload:
        """Return all that was ever deleted."""


class UploadRequest(NamedTuple):
    """A request, and which of its two entries comes next."""

    lane: Lane
    account: AccountId
    id: str
    upload: UploadId
    recorded: datetime
    next_state: UploadErasureState = UploadErasureState.CONFIRMED


@dataclass
class _Work:
    """The erasure of one upload."""

    at: Partition
    offset: int
    request: UploadRequest
    next: Deadline
    settled: Deadline | None = None
    """When the last put has ended that began before its sink could see the tombstone."""
    running: Future[None] | None = None
    passes: int = 0
    wire: Wire | None = None
    """The entry to write."""
    confirmed: datetime | None = None
    """When the first of its entries became true."""


class _Passes:
    """Marks, deletes and looks, in threads."""

    def __init__(
        self,
        deletion: Deletion,
        kept_as: Callable[[Lane, AccountId, UploadId], KeptUpload],
        settle: Callable[[], Deadline],
        now: WallClock,
    ) -> None:
        self._deletion = deletion
        self._kept_as = kept_as
        self._settle = settle
        self._now = now

    def run(self, work: _Work) -> None:
        """Delete what is there; set the next entry once it is true."""
        request = work.request
        work.passes += 1
        kept = self._kept_as(request.lane, request.account, request.upload)
        if work.settled is None:
            self._deletion.mark(kept)
            work.settled = self._settle()
        is_settled = work.settled.has_passed
        found = self._deletion.delete(kept)
        is_first = request.next_state is UploadErasureState.CONFIRMED
        if (is_first and found < MAX_OBJECTS) or (is_settled and not found):
            seen = self._now()
            if is_first:
                work.confirmed = seen
            entry = _entry(work, kept, self._deletion.deleted(kept), seen)
            work.wire = to_wire(entry, source="/eraser")
        if not is_settled and found < MAX_OBJECTS:
            work.next = work.settled


def _entry(work: _Work, kept: KeptUpload, deleted: DeletedUpload, seen: datetime) -> UploadErased:
    request = work.request
    return UploadErased(
        id=new_event_id(seen, os.urandom(10)),
        time=seen,
        lane=request.lane,
        account=request.account,
        upload=request.upload,
        request=request.id,
        recorded=request.recorded,
        confirmed=work.confirmed,
        stored_as=kept.stored_as,
        objects=deleted.objects,
        objects_root=deleted.objects_root,
        state=request.next_state,
    )


class UploadEraser:
    """Works through the requests; `kept_as` returns an upload as its pictures' names have it."""

    def __init__(
        self,
        *,
        deletion: Deletion,
        kept_as: Callable[[Lane, AccountId, UploadId], KeptUpload],
        entries: OwnedEntries[UploadRequest],
        partitions: Mapping[str, int],
        settle_s: float,
        outage: OutageLog,
        clock: Clock = time.monotonic,
        now: WallClock = utc_now,
    ) -> None:
        """`partitions`: the partition counts of the lanes' ledgers, and of `erasures.L`.

        `settle_s`: time until the last put of a sink has ended that has not seen a tombstone.
        """
        self._passes = _Passes(deletion, kept_as, lambda: Deadline(settle_s, clock), now)
        self._entries = entries
        self._partitions = partitions
        self._outage = outage
        self._clock = clock
        self._works: dict[tuple[Partition, int], _Work] = {}
        self._pool = ThreadPoolExecutor(MAX_UPLOADS, thread_name_prefix="erase-upload")
        self._full: set[Lane] = set()
        self.count: int = 0
        """Number of requests that are done."""

    def add(self, record: Record) -> bool:
        """Take a record of a ledger, in which only requests are of interest; refuse any other."""
        lane = lane_of(record.at.topic)
        if record.at.topic != ledger_of(lane):
            return False
        request = self._parse(record)
        if request is not None:
            work = _Work(record.at, record.offset, request, Deadline(0, self._clock))
            self._works.setdefault((record.at, record.offset), work)
        return True

    @property
    def pending(self) -> Iterator[_Work]:
        """The requests that are read and not done."""
        return iter(self._works.values())

    def full(self) -> set[Lane]:
        """Return the lanes to read no request of: from the limit on, until half of it is done."""
        counts = Counter(work.request.lane for work in self._works.values())
        still = {lane for lane in self._full if counts[lane] > MAX_REQUESTS // 2}
        self._full = still | {lane for lane, count in counts.items() if count >= MAX_REQUESTS}
        return set(self._full)

    def run_once(self, shown: set[Partition]) -> None:
        """Begin what can begin, and write what is true; do not wait for the buckets.

        `shown` are the partitions of `erasures.L` whose leaders answer.
        """
        for work in self._works.values():
            take_result(work, self._outage, self._clock)
        self._write(shown)
        self._begin()

    def close(self) -> None:
        """Stop the threads; what is not done is redelivered."""
        self._pool.shutdown(cancel_futures=True)

    def _parse(self, record: Record) -> UploadRequest | None:
        try:
            if type_of(record.headers) is not UploadErasureRequested:
                return None
            asked = from_wire(UploadErasureRequested, record.headers, record.value)
        except InvalidEvent:
            return None
        if not belongs(record, ledger_of(asked.lane), asked.account, self._partitions):
            return None
        appended = utc(record.appended_ms)
        return UploadRequest(asked.lane, asked.account, asked.id, asked.upload, appended)

    def _begin(self) -> None:
        for work in in_turn(self._works.values(), lambda work: work.request, MAX_UPLOADS):
            work.running = self._pool.submit(self._passes.run, work)

    def _write(self, shown: set[Partition]) -> None:
        due = {w.request: w for w in self._works.values() if w.wire is not None and not w.running}
        wires = {request: work.wire for request, work in due.items() if work.wire is not None}
        if not wires:
            return
        for request in self._entries.write(erasures_of, wires, shown):
            work = due[request]
            work.wire = None
            if request.next_state is UploadErasureState.GONE:
                del self._works[work.at, work.offset]
                self.count += 1
                log.info("upload_erased", extra={"lane": request.lane})
            else:
                work.request = request._replace(next_state=UploadErasureState.GONE)
