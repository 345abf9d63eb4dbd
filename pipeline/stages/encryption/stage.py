"""The encryption sink as a stage: recheck consent, seal, create the object, commit the offset.

Rules, in this order, for each batch:

1. After reading, take the consent view's own mark, and wait until the view reaches both it and
   the offset that the router had applied when it decided: a deposed leader that does not know
   it yet answers with an old end offset, before which a picture's very grant can be missing.
2. Drop a picture whose grant is not the one in force: consent was withdrawn meanwhile.
3. Seal and create.  While the bucket is unavailable, retry the same picture.
4. Check the erasure markers once more, then commit.

A record that cannot be read holds up no other: all others are stored, and its partition is
committed up to it.  So it is read again by the next process, which may be a newer version.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from erasestream.pipeline.runtime.quarantine import QuarantinedPartition, QuarantineRegistry
from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import Erased, InvalidInput
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition, Record

BATCH = 8
"""Pictures that are sealed and stored in parallel; a picture has at most 64 MB."""
CATCH_UP_S = 1.0
"""Longest attempt to catch up before the stage checks whether it is to stop."""


class EncryptionStage:
    """Stores retained pictures, once, and only while their grants are in force."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        view: ConsentView,
        sink: EncryptionSink,
        quarantine: QuarantineRegistry,
        stopping: threading.Event,
    ) -> None:
        self._queue = queue
        self._view = view
        self._sink = sink
        self._quarantine = quarantine
        self._unreadable: dict[Partition, int] = {}
        """The first unreadable record of each partition, of this assignment."""
        self._assignments = queue.assignments
        self._retry = RetryUntilStopped(stopping)
        self._pool = ThreadPoolExecutor(BATCH, thread_name_prefix="sink")
        self.counts: Counter[str] = Counter()
        """Number of pictures that were stored, dropped or erased meanwhile."""

    def run_once(self, timeout_s: float = 0.2) -> None:
        """Store one batch.  Raises `Unavailable` only if the stage is to stop."""
        records = self._queue.read(timeout_s=timeout_s, most=BATCH)
        if self._assignments != self._queue.assignments:
            self._forget_unreadable()
        if not records:
            return
        events = [event for record in records if (event := self._event(record))]
        self._retry.call(lambda: self._refresh_consent(events))
        kept = [event for event in events if self._is_in_force(event)]
        self.counts["dropped"] += len(events) - len(kept)
        stored = self._pool.map(lambda event: self._retry.call(lambda: self._store(event)), kept)
        self.counts.update(stored)
        self._retry.call(lambda: self._recheck_markers(event.grant for event in kept))
        self._commit(records)

    def is_ready(self) -> bool:
        """Return whether the group has answered."""
        return self._queue.has_joined

    def quarantined(self) -> list[QuarantinedPartition]:
        """Return the partitions with a record that cannot be read."""
        return self._quarantine.partitions()

    def close(self) -> None:
        """Stop storing; what is not committed is redelivered."""
        self._pool.shutdown(cancel_futures=True)

    def _event(self, record: Record) -> Retained | None:
        """Return the picture in a record; None if it cannot be read."""
        try:
            return from_wire(Retained, record.headers, record.value)
        except InvalidInput:
            at, offset = record.at, record.offset
            self._unreadable.setdefault(at, offset)
            broken = PartitionBroken(at, Defect.UNDECIDABLE_RECORD, offset=offset)
            self._quarantine.quarantined(broken)
            return None

    def _forget_unreadable(self) -> None:
        """Forget what was read before an assignment: it may be another member's by now."""
        for at in self._unreadable:
            self._quarantine.released(at)
        self._unreadable = {}
        self._assignments = self._queue.assignments

    def _commit(self, records: Iterable[Record]) -> None:
        below: dict[Partition, int] = {}
        for record in records:
            below[record.at] = max(below.get(record.at, 0), record.offset + 1)
        self._queue.commit_below(
            {at: min(offset, self._unreadable.get(at, offset)) for at, offset in below.items()}
        )

    def _refresh_consent(self, events: Iterable[Retained]) -> None:
        mark = dict(self._view.mark_of_lanes({event.lane for event in events}))
        for event in events:
            at, offset = _routed_at(event)
            if at in mark:  # else its lane was removed, and none of its grants is in force
                mark[at] = max(mark[at], offset)
        self._view.catch_up(mark, deadline_s=CATCH_UP_S)

    def _is_in_force(self, event: Retained) -> bool:
        standing = self._view.active_grant(event.lane, event.account)
        return standing is not None and standing.grant == event.grant

    def _store(self, event: Retained) -> str:
        try:
            self._sink.store(event)
        except Erased:
            return "dropped"
        return "stored"

    def _recheck_markers(self, grants: Iterable[GrantId]) -> None:
        for grant in set(grants):
            try:
                self._sink.assert_not_erased(grant)
            except Erased:
                # The eraser follows its marker, and deletes what was just stored.
                self.counts["erased"] += 1


def _routed_at(event: Retained) -> tuple[Partition, int]:
    """Return how far the router had applied the account's consent partition."""
    number, _, offset = event.mark.partition("/")
    return Partition(consent_of(event.lane), int(number)), int(offset)
