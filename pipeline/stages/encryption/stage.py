"""The encryption sink as a stage: read retained pictures, store them, commit their offsets.

Rules, in this order:

1. Read no more than there is room for; the group keeps the member while there is none.
2. After reading, wait until the consent view is fresh for the lanes of the batch
   (`lane_freshness.py`).  Pictures of a lane that is behind wait, by their positions
   (`held_records.py`), and are read again once it is not; those of all others go on.
3. Store pictures whose grants are in force, and drop the others (`picture_store.py`).  Each further
   attempt to store a picture begins with rule 2 again.
4. Write to the ledger which were lost before they were stored (`loss_watch.py`).
5. Commit up to the first record that is not done.  Pictures are stored in any order, and
   committed in the order of their offsets.

While the alarm is raised (`unstored_alarm.py`) records are read on for which there is no room, and
wait by their positions: those that are deleted before they are stored are named by their uploads.

A record that cannot be read, or whose capsule does not open it, holds up no other: its partition is
committed up to it, so that the next process, which may be a newer version, reads it again until the
record's life ends.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple

from erasestream.pipeline.runtime.quarantine import QuarantinedPartition, QuarantineRegistry
from erasestream.pipeline.stages.encryption.bounded_reads import BoundedReads
from erasestream.pipeline.stages.encryption.held_records import HeldRecords, WaitingRecord
from erasestream.pipeline.stages.encryption.lane_freshness import LaneFreshness
from erasestream.pipeline.stages.encryption.loss_report import LostPicture
from erasestream.pipeline.stages.encryption.loss_watch import LossWatch
from erasestream.pipeline.stages.encryption.picture_store import (
    Attempt,
    Outcome,
    Picture,
    PictureStore,
)
from erasestream.pipeline.stages.encryption.waiting_reads import RecordSource, WaitingReads
from erasestream.schemas.clocks import Clock
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidInput
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


class _Read(NamedTuple):
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
        losses: LossWatch,
        quarantine: QuarantineRegistry,
        clock: Clock = time.monotonic,
    ) -> None:
        """Store what `queue` delivers; `records` reads pictures again that had to wait."""
        self._queue = queue
        self._view = view
        self._store = store
        self._losses = losses
        self._quarantine = quarantine
        self._clock = clock
        self._reads = BoundedReads(queue, wait=store.wait, clock=clock)
        self._freshness = LaneFreshness(view)
        self._waiting = WaitingReads(records, self._freshness, clock=clock)
        self._held = HeldRecords()
        self._assignments = queue.assignments

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Begin to store what is read, and commit what is stored.

        Raises `Unavailable` only if the stage is to stop.
        """
        self._store.drop_dead_keys()
        pictures = [picture for record in self._read(timeout_s) if (picture := self._parse(record))]
        self._losses.read_to_ends(self._held, self._queue.take_ends())
        pictures += self._read_again()
        pictures += _still_held(self._store.take_failed(), self._held)
        if pictures:
            self._begin(pictures)
        self._finish()
        self._losses.update(self._held)
        self._queue.commit_below(self._held.to_commit())

    def is_ready(self) -> bool:
        """Return whether the group has answered, and master key and key service are available."""
        return self._queue.has_joined and self._store.can_seal()

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions with a record that cannot be read."""
        return self._quarantine.partitions()

    @property
    def waiting(self) -> int:
        """Number of pictures that were read, and wait by their positions."""
        return len(self._held)

    def metrics(self) -> str:
        """Return the metrics of the alarm, in the text format of Prometheus."""
        return self._losses.metrics()

    def close(self) -> None:
        """Stop storing; what is not committed is redelivered."""
        self._store.close()

    def _read(self, timeout_s: float) -> list[Record]:
        room_bytes = self._store.room_bytes or int(self._losses.is_alarmed)
        if len(self._held) >= MAX_WAITING:
            room_bytes = 0
        records = self._reads.read(timeout_s, room_bytes=room_bytes)
        if self._assignments != self._queue.assignments:
            self._begin_assignment()
        return records

    def _begin_assignment(self) -> None:
        """Forget what was read before: it may be another member's by now."""
        for each in self._quarantine.partitions():
            self._quarantine.released(Partition(each.topic, each.partition))
        self._held = HeldRecords()
        self._assignments = self._queue.assignments

    def _parse(self, record: Record) -> _Read | None:
        """Hold a record, and return its picture; None if it cannot be read."""
        at, offset = record.at, record.offset
        self._losses.read(self._held, at, offset)
        self._held.hold(at, offset, record.appended_ms)
        try:
            return _Read(at, offset, from_wire(Retained, record.headers, record.value))
        except InvalidInput:
            self._quarantine_at(at, offset)
            return None

    def _read_again(self) -> list[_Read]:
        """Return pictures that have waited, and whose lanes are not behind any more."""
        again = self._waiting.read(self._held, room_bytes=self._store.room_bytes)
        self._losses.purged(again.purged)
        for each in again.purged:
            self._held.done(each.at, each.offset)
        return [picture for record in again.records if (picture := self._parse(record))]

    def _begin(self, pictures: list[_Read]) -> None:
        has_room = self._store.room_bytes > 0
        fresh = self._freshness.fresh(_routed(each.event for each in pictures)) if has_room else ()
        for at, offset, event in pictures:
            if event.lane in fresh:
                self._held.begin(at, offset)
                self._store.begin(Picture.of(at, offset, event), event)
            else:
                routed = _routed([event])[event.lane]
                self._held.wait(WaitingRecord(at, offset, event.lane, event.id, routed))

    def _finish(self) -> None:
        finished = self._store.finished()
        lost = [
            LostPicture(picture.lane, picture.at, picture.offset)
            for picture, outcome in finished
            if outcome is Outcome.EXPIRED
        ]
        self._losses.expired(lost)
        for picture, outcome in finished:
            if not self._held.holds(picture.at, picture.offset):
                continue  # of an assignment that has ended
            if outcome is Outcome.UNREADABLE:
                self._quarantine_at(picture.at, picture.offset)
            else:
                self._held.done(picture.at, picture.offset)

    def _quarantine_at(self, at: Partition, offset: int) -> None:
        self._held.leave(at, offset)
        broken = PartitionBroken(at, Defect.UNDECIDABLE_RECORD, offset=offset)
        self._quarantine.quarantined(broken)


def _still_held(failed: Iterable[Attempt], held: HeldRecords) -> list[_Read]:
    """Return pictures whose last attempt failed, if their assignment has not ended."""
    return [
        _Read(picture.at, picture.offset, event)
        for picture, event in failed
        if held.holds(picture.at, picture.offset)
    ]


def _routed(events: Iterable[Retained]) -> dict[Lane, Mark]:
    """Return how far the router had applied the decisions of each lane for these pictures."""
    routed: dict[Lane, dict[Partition, int]] = {}
    for event in events:
        number, _, offset = event.mark.partition("/")
        at = Partition(consent_of(event.lane), int(number))
        of_lane = routed.setdefault(event.lane, {})
        of_lane[at] = max(of_lane.get(at, 0), int(offset))
    return dict(routed)
