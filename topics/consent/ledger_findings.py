"""Findings about consent records and partitions: logged, and written to the lane's ledger later.

A finding's id is derived from the position of its record: every router finds the same record,
again after each restart, and all their entries are one.  Entries wait until the router has time
to write them; while brokers are unavailable none is lost as long as the process lives, and the
next process finds the same.

A flood of invalid records takes no memory: above a bound, findings of one kind in one topic are
counted, and become one entry that names the first.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import Lane, upload_id_of_position
from erasestream.topics.catalog.topic_names import lane_of
from erasestream.topics.consent.ledger_place import place_of_findings
from erasestream.topics.kafka.partition_broken import PartitionBroken
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

RETRY_S = 10.0
WAIT_S = 0.02
"""Longest wait for an answer; one that takes longer is taken later, and holds up its lane alone."""
MAX_WAITING = 1000
"""Waiting findings of a lane, beyond which they are only counted."""


class _Entry(NamedTuple):
    """A finding to write: about one record, or about several from this one on."""

    kind: FindingKind
    at: Partition
    offset: int
    records: int = 1
    note: str = ""


@dataclass
class _Queue:
    """The findings of one lane, and those that are only counted."""

    waiting: deque[_Entry] = field(default_factory=deque)
    beyond: dict[tuple[FindingKind, str], _Entry] = field(default_factory=dict)
    answer: Future[Written] | None = None
    """The answer to the first, if it is handed over."""
    retry: Deadline | None = None

    def add(self, entry: _Entry, *, most: int) -> None:
        """Add a finding; count it if too many wait."""
        if len(self.waiting) < most:
            self.waiting.append(entry)
        else:
            self.beyond[entry.kind, entry.at.topic] = entry


class LedgerFindings:
    """Queues of findings, written one at a time on request; the lanes take turns."""

    def __init__(
        self,
        *,
        writes: AcknowledgedWriter,
        partitions: Mapping[str, int],
        source: str = "/router",
        now: WallClock = utc_now,
        clock: Clock = time.monotonic,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`partitions`: the partition counts of the lanes' ledgers."""
        self._writes = writes
        self._partitions = partitions
        self._source = source
        self._now = now
        self._clock = clock
        self._max_waiting = max_waiting
        self._queues: dict[Lane, _Queue] = {}

    def report(self, kind: FindingKind, at: Partition, offset: int) -> None:
        """Log a finding about one record, and queue it."""
        queue = self._queue_of(at)
        beyond = queue.beyond.get((kind, at.topic))
        if beyond is not None:
            queue.beyond[kind, at.topic] = beyond._replace(records=beyond.records + 1)
            return
        fields = {"topic": at.topic, "partition": at.number, "offset": offset, "code": kind}
        log.warning("finding", extra=fields)
        queue.add(_Entry(kind, at, offset), most=self._max_waiting)

    def report_quarantined(self, broken: PartitionBroken) -> None:
        """Queue a finding about a partition that is not read any more."""
        kind, note = FindingKind.PARTITION_QUARANTINED, f": {broken.defect}"
        entry = _Entry(kind, broken.at, broken.offset, note=note)
        self._queue_of(broken.at).add(entry, most=self._max_waiting)

    def __len__(self) -> int:
        """Return how many findings wait, or are not acknowledged."""
        return sum(len(each.waiting) + len(each.beyond) for each in self._queues.values())

    def _queue_of(self, at: Partition) -> "_Queue":
        return self._queues.setdefault(lane_of(at.topic), _Queue())

    def write_one(self) -> None:
        """Write the oldest finding of the next lane that has any.

        While its partition is unavailable it stays queued, and is tried again after `RETRY_S`.
        Waits for the brokers, `WAIT_S` at most: do not call it with a transaction open.
        """
        for queue in self._queues.values():
            self._take_answer(queue)
        lane = next((lane for lane, queue in self._queues.items() if self._is_ready(queue)), None)
        if lane is None:
            return
        queue = self._queues[lane] = self._queues.pop(lane)  # at the end: lanes take turns
        try:
            (queue.answer,) = self._writes.begin([self._record(queue.waiting[0])])
        except Unavailable:
            queue.retry = Deadline(RETRY_S, self._clock)
            return
        self._writes.wait([queue.answer], timeout_s=WAIT_S)
        self._take_answer(queue)

    def _is_ready(self, queue: "_Queue") -> bool:
        if not queue.waiting:
            queue.waiting.extend(queue.beyond.values())
            queue.beyond.clear()
        is_paused = queue.retry is not None and not queue.retry.has_passed
        return bool(queue.waiting) and queue.answer is None and not is_paused

    def _take_answer(self, queue: "_Queue") -> None:
        if queue.answer is None:
            return
        self._writes.wait([queue.answer], timeout_s=0)
        if not queue.answer.done():
            return
        try:
            queue.answer.result()
        except Unavailable:
            queue.retry = Deadline(RETRY_S, self._clock)
        else:
            queue.waiting.popleft()
        queue.answer = None

    def _record(self, entry: _Entry) -> tuple[Partition, bytes, Wire]:
        kind, about, offset, records, note = entry
        if note:
            name = f"{kind}:{about.topic}:{note}"
            detail = f"{about}{note}" if offset < 0 else f"{about} at {offset}{note}"
        elif records > 1:
            name = f"{kind}:{about.topic}:many"
            detail = f"{records} records from {about} at {offset} on"
        else:
            name = f"{kind}:{about.topic}"
            detail = f"{about} at {offset}"
        event = Finding(
            id=upload_id_of_position(name, about.number, max(offset, 0)),
            time=self._now(),
            kind=kind,
            detail=detail,
        )
        at, key = place_of_findings(lane_of(about.topic), self._partitions)
        return at, key, to_wire(event, source=self._source)
