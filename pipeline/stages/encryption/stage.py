"""The encryption sink as a stage: read retained pictures, store them, commit their offsets.

Rules, in this order, for each batch:

1. After reading, wait until the consent view is fresh for the lanes of the batch
   (`lane_freshness.py`).  Pictures of a lane that is behind wait, by their positions
   (`held_records.py`), and are read again once it is not; those of all others go on.
2. Store pictures whose grants are in force, and drop the others (`picture_store.py`).
3. Write to the ledger which were lost because their keys had died (`loss_report.py`).
4. Commit up to the first record that is not done.

A record that cannot be read, or whose capsule does not open it, holds up no other: its partition is
committed up to it, so that the next process, which may be a newer version, reads it again.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from erasestream.pipeline.runtime.quarantine import QuarantinedPartition, QuarantineRegistry
from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.pipeline.stages.encryption.held_records import HeldRecords, WaitingRecord
from erasestream.pipeline.stages.encryption.lane_freshness import LaneFreshness
from erasestream.pipeline.stages.encryption.loss_report import LossReport, LostPicture
from erasestream.pipeline.stages.encryption.picture_store import MAX_PARALLEL, Outcome, PictureStore
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidInput, Unavailable
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition, Record

MAX_WAITING = 10_000
"""Pictures that may wait for their lanes; beyond that no more are read, of any lane."""
RETRY_S = 1.0
"""Interval at which lanes that are behind are looked at."""


class RecordSource(Protocol):
    """Records by their position (`RecordFetcher`)."""

    def read(self, at: Partition, offset: int) -> Record | None:
        """Return the record at this offset; None if it was deleted.  Raises `Unavailable`."""


class _Picture(NamedTuple):
    at: Partition
    offset: int
    event: Retained


class EncryptionStage:
    """Stores retained pictures, once, and only while their grants are in force."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        records: RecordSource,
        view: ConsentView,
        store: PictureStore,
        losses: LossReport,
        quarantine: QuarantineRegistry,
        stopping: threading.Event,
        clock: Clock = time.monotonic,
    ) -> None:
        """Store what `queue` delivers; `records` reads pictures again that had to wait."""
        self._queue = queue
        self._records = records
        self._view = view
        self._store = store
        self._losses = losses
        self._retry = RetryUntilStopped(stopping)
        self._quarantine = quarantine
        self._stopping = stopping
        self._clock = clock
        self._freshness = LaneFreshness(view)
        self._held = HeldRecords()
        self._assignments = queue.assignments
        self._look_again = Deadline(RETRY_S, clock)

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Store one batch.  Raises `Unavailable` only if the stage is to stop."""
        self._store.drop_dead_keys()
        pictures = [picture for record in self._read(timeout_s) if (picture := self._parse(record))]
        pictures += self._ready_again()
        if pictures:
            self._process(pictures)
        self._queue.commit_below(self._held.to_commit())

    def is_ready(self) -> bool:
        """Return whether the group has answered, and master key and key service are available."""
        return self._queue.has_joined and self._store.can_seal()

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions with a record that cannot be read."""
        return self._quarantine.partitions()

    def close(self) -> None:
        """Stop storing; what is not committed is redelivered."""
        self._store.close()

    def _read(self, timeout_s: float) -> list[Record]:
        if len(self._held) >= MAX_WAITING:
            self._stopping.wait(timeout_s)
            return []
        records = self._queue.read(timeout_s=timeout_s, most=MAX_PARALLEL)
        if self._assignments != self._queue.assignments:
            self._begin_assignment()
        for at, end in self._queue.take_ends().items():
            self._held.read_to(at, end)
        return records

    def _begin_assignment(self) -> None:
        """Forget what was read before: it may be another member's by now."""
        for each in self._quarantine.partitions():
            self._quarantine.released(Partition(each.topic, each.partition))
        self._held = HeldRecords()
        self._assignments = self._queue.assignments

    def _parse(self, record: Record) -> _Picture | None:
        """Hold a record, and return its picture; None if it cannot be read."""
        at, offset = record.at, record.offset
        self._held.hold(at, offset)
        try:
            return _Picture(at, offset, from_wire(Retained, record.headers, record.value))
        except InvalidInput:
            self._quarantine_at(at, offset)
            return None

    def _ready_again(self) -> list[_Picture]:
        """Return pictures that have waited, and whose lanes are not behind any more."""
        if not len(self._held) or not self._look_again.has_passed:
            return []
        first = {each.lane: each.routed for each in reversed(list(self._held.waiting()))}
        self._freshness.fresh(first)
        behind = self._freshness.behind
        ready = [each for each in self._held.waiting() if each.lane not in behind]
        pictures = [self._read_again(each) for each in islice(ready, MAX_PARALLEL)]
        if len(ready) <= MAX_PARALLEL:
            self._look_again = Deadline(RETRY_S, self._clock)
        return [each for each in pictures if each]

    def _read_again(self, waiting: WaitingRecord) -> _Picture | None:
        at, offset = waiting.at, waiting.offset
        try:
            record = self._records.read(at, offset)
        except Unavailable:
            return None
        if record is None:
            self._held.done(at, offset)  # its lifetime has ended
            self._store.counts["dropped"] += 1
            return None
        return self._parse(record)

    def _process(self, pictures: list[_Picture]) -> None:
        fresh = self._freshness.fresh(_routed(each.event for each in pictures))
        ready = [each for each in pictures if each.event.lane in fresh]
        for at, offset, event in pictures:
            if event.lane not in fresh:
                routed = _routed([event])[event.lane]
                self._held.wait(WaitingRecord(at, offset, event.lane, routed))
        outcomes = self._store.store([each.event for each in ready])
        lost = list(_lost(ready, outcomes))
        self._retry.call(lambda: self._losses.report(lost))
        for (at, offset, _), outcome in zip(ready, outcomes, strict=True):
            if outcome is Outcome.UNREADABLE:
                self._quarantine_at(at, offset)
            else:
                self._held.done(at, offset)

    def _quarantine_at(self, at: Partition, offset: int) -> None:
        self._held.leave(at, offset)
        broken = PartitionBroken(at, Defect.UNDECIDABLE_RECORD, offset=offset)
        self._quarantine.quarantined(broken)


def _lost(pictures: list[_Picture], outcomes: list[Outcome]) -> Iterator[LostPicture]:
    for (at, offset, event), outcome in zip(pictures, outcomes, strict=True):
        if outcome is Outcome.EXPIRED:
            yield LostPicture(event.lane, at, offset)


def _routed(events: Iterable[Retained]) -> dict[Lane, Mark]:
    """Return how far the router had applied the decisions of each lane for these pictures."""
    routed: dict[Lane, dict[Partition, int]] = {}
    for event in events:
        number, _, offset = event.mark.partition("/")
        at = Partition(consent_of(event.lane), int(number))
        of_lane = routed.setdefault(event.lane, {})
        of_lane[at] = max(of_lane.get(at, 0), int(offset))
    return dict(routed)
