"""Results between the thread that fetches them and the callers that take them.

Rules:

* What was fetched is tracked when it is taken, in the order of each partition.  It was decoded
  before it was queued, or when it was opened (`result_opening.py`).
* A result is a `Cutout`, a `Failure` or an `Expired`; a record that this release cannot decode is
  counted, logged and skipped.
* A result that was delivered in this session is not delivered again (`ack_tracker.py`).
* Once a partition is revoked, or is to be read from another offset, nothing of it that was fetched
  before is delivered.

Not thread-safe, except for settling a delivery: the owner holds its lock.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable
from operator import index

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import Code, InvalidEvent, InvariantBroken, Refused, UsedAfterFork
from erasestream.schemas.events.base import utc
from erasestream.topics.client.ack_tracker import DeliveryTracker, ResultState
from erasestream.topics.client.delivered_results import ResultKey
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.fetched_results import Fetched, FetchedRecord, FetchedResults
from erasestream.topics.kafka.consumer.offset_committer import Commits
from erasestream.topics.kafka.consumer.reported_end import ReadToEnd
from erasestream.topics.kafka.records import Partition, Record

log = logging.getLogger(__name__)

MAX_OFFSET = (1 << 63) - 1
"""Largest offset that the brokers can express."""
MAX_REASONS = 100
"""Different reasons of rejections that are counted; others are counted as `OTHER_REASON`."""
MAX_REASON_CHARACTERS = 128
OTHER_REASON = "other"


class _Settlement:
    """The settling of one delivery, in the process to which it was delivered."""

    def __init__(self, queue: "DeliveryQueue", record: Record, key: ResultKey) -> None:
        self._queue = queue
        self._at, self._offset, self._key = record.at, record.offset, key

    def acknowledge(self) -> bool:
        self._queue.check_process()
        return self._queue.tracker.acknowledge(self._at, self._offset, self._key)

    def return_after(self, delay_s: float) -> None:
        self._queue.check_process()
        if not math.isfinite(delay_s):
            raise Refused("a delay is a number of seconds")
        self._queue.tracker.return_at(self._at, self._offset, self._queue.clock() + delay_s)

    def reject(self, reason: str) -> None:
        self._queue.check_process()
        if not reason or not isinstance(reason, str):
            raise Refused("a rejection needs a reason, as text")
        if self.acknowledge():
            self._queue.count_rejection(reason[:MAX_REASON_CHARACTERS])


class DeliveryQueue:
    """Fetched records of one topic, the deliveries made of them, and what is counted."""

    def __init__(self, *, remember: int, max_bytes: int, clock: Clock) -> None:
        self.tracker = DeliveryTracker(remember=remember)
        self.clock = clock
        self.skipped: Counter[Code] = Counter()
        self.duplicates = 0
        self.expired = 0
        self.rejected: Counter[str] = Counter()
        self._fetched = FetchedResults(max_bytes=max_bytes)
        self.has_room = self._fetched.has_room
        self.next_sealed = self._fetched.next_sealed
        self._seeks: dict[Partition, int] = {}
        self._process = os.getpid()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made it, not one that forked this one."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """Raise `Refused` (used_after_fork) in another process than the one that made it."""
        if not self.is_of_this_process:
            raise UsedAfterFork

    @property
    def is_opening(self) -> bool:
        """Whether the next result is still to be opened."""
        return self._fetched.is_opening

    def put(self, item: Fetched) -> None:
        """Add what was fetched."""
        if item.at not in self._seeks:
            self._fetched.put(item)

    def take(self) -> Delivery | None:
        """Return the next result to deliver, if there is one."""
        while (item := self._fetched.take()) is not None:
            if isinstance(item, ReadToEnd):
                self.tracker.pass_to(*item)
            elif (delivery := self._delivery(item)) is not None:
                return delivery
        return None

    def seek(self, at: Partition, offset: int) -> None:
        """Deliver this partition from this offset on.  Raises `Refused` if it is not assigned."""
        if at not in self.tracker.assigned or not 0 <= index(offset) <= MAX_OFFSET:
            raise Refused(f"{at} is not assigned to this subscription, or {offset} is no offset")
        self.tracker.seek(at, offset)
        self._fetched.drop([at])
        self._seeks[at] = offset

    def seeks(self) -> dict[Partition, int]:
        """Return where the partitions are to be read next that are not to be read on."""
        passes = self.tracker.begin_passes(self.clock())
        self._fetched.drop(passes)
        self._seeks = passes | self._seeks
        return dict(self._seeks)

    def sought(self, done: dict[Partition, int]) -> None:
        """Take what is fetched from now on: the partitions are read from these offsets."""
        for at, offset in done.items():
            if self._seeks.get(at) == offset:
                del self._seeks[at]

    def revoke(self, partitions: Iterable[Partition] | None = None) -> Commits:
        """Drop partitions, or all, and return what is to be committed for them."""
        revoked = self.tracker.assigned if partitions is None else list(partitions)
        self._fetched.drop(revoked)
        for at in revoked:
            self._seeks.pop(at, None)
        return self.tracker.revoke(revoked)

    def count_rejection(self, reason: str) -> None:
        """Count a rejection."""
        is_known = reason in self.rejected or len(self.rejected) < MAX_REASONS
        self.rejected[reason if is_known else OTHER_REASON] += 1

    def _delivery(self, item: FetchedRecord) -> Delivery | None:
        record, event = item.record, item.outcome
        if event is None:
            raise InvariantBroken("a result is taken before it is opened")
        if isinstance(event, InvalidEvent):
            self._skip(record, event)
            return None
        key = ResultKey.of(event.account, event.id)
        state = self.tracker.track(record.at, record.offset, key)
        self.duplicates += state is ResultState.DUPLICATE
        if state is not ResultState.NEW:
            return None
        self.expired += isinstance(event, Expired)
        return Delivery(
            event=event,
            partition=record.at.number,
            offset=record.offset,
            appended_at=utc(record.appended_ms),
            _settlement=_Settlement(self, record, key),
        )

    def _skip(self, record: Record, invalid: InvalidEvent) -> None:
        if not self.tracker.skip(record.at, record.offset):
            return
        self.skipped[invalid.code] += 1
        log.warning(
            "result_skipped",
            extra={
                "code": invalid.code,
                "topic": record.at.topic,
                "partition": record.at.number,
                "offset": record.offset,
            },
        )
