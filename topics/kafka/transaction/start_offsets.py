"""Find where each assigned partition is read from, and the metadata that belongs to it.

Rules, all of them:

1. Offset and metadata of a partition come from one answer of the group coordinator.
2. A partition without a committed offset starts where the handler can prove that nothing of it
   was ever handled; if it cannot, the partition is broken.  That start is committed before
   anything else, so that a crash in the first transaction does not make the proof impossible.
3. A partition that was quarantined is tried again from its committed offset; first its flag
   (`partition_broken.py`) is removed.
4. Whatever is committed here is read again before it is used.  A repair does it the other way
   round: it locks by a transaction, and then reads.  So one of both sees the other.
5. A partition whose records were deleted beyond the committed offset starts at the log start.
   The loss is logged and marked (`after_loss`); the handler decides what it means.
6. Unavailable coordinators are retried until the stage is to stop.  A partition whose own
   brokers are unavailable is postponed.
7. If the group has rebalanced meanwhile, the assignment is stale and nothing is found.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.schemas.errors import MissingTopic, Unavailable
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import Defect, Flagged, PartitionBroken
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
MAX_PAUSE_S = 0.5

_STALE = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
}

T = TypeVar("T")


class StaleGeneration(Exception):
    """The group has rebalanced: the partitions may be another member's by now."""


class StartOffset(NamedTuple):
    """Where a partition is read from, and the metadata of that offset."""

    offset: int
    metadata: str
    after_loss: bool = False
    """Whether unread records before this offset were deleted."""

    def within(self, log_start: int) -> "StartOffset":
        """Return this start, moved to the log start if its record was deleted."""
        if self.offset >= log_start:
            return self
        return StartOffset(log_start, self.metadata, after_loss=True)


class Found(NamedTuple):
    """The start offsets that were found, and the partitions without one."""

    starts: dict[Partition, StartOffset]
    broken: list[PartitionBroken]
    postponed: list[Partition]


class StartOffsets:
    """Finds the start offsets of what a consumer was assigned."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        offsets: OffsetQueries,
        initial_offset: Callable[[Partition], StartOffset | None],
        stopping: threading.Event,
        errors: ClientErrorState,
    ) -> None:
        self._consumer = consumer
        self._offsets = offsets
        self._initial_offset = initial_offset
        self._stopping = stopping
        self._errors = errors

    def find(self, partitions: Iterable[Partition]) -> Found:
        """Return the start offset of each partition that has one.

        Raises `StaleGeneration`; `Fenced`; `Unavailable` once the stage is to stop.
        """
        found = Found({}, [], [])
        committed = self._committed(partitions)
        new = {at: start for at in committed if (start := self._new_start(at, committed, found))}
        if new:
            self._commit(new)
            committed |= self._committed(new)
        starts = {at: start for at, start in committed.items() if start is not None}
        known = self._log_starts(starts)
        for at, start in starts.items():
            if at in known:
                found.starts[at] = _logged(at, start.within(known[at]))
            else:
                found.postponed.append(at)
        return found

    def _committed(self, partitions: Iterable[Partition]) -> dict[Partition, StartOffset | None]:
        asked = [TopicPartition(*at) for at in partitions]
        committed: dict[Partition, StartOffset | None] = {}
        for tp in self._retry(lambda: self._consumer.committed(asked, REQUEST_TIMEOUT_S)):
            at = Partition(tp.topic, tp.partition)
            if tp.error is not None:
                raise translate(tp.error, f"committed offset of {at}")
            is_known = tp.offset >= 0
            committed[at] = StartOffset(tp.offset, tp.metadata or "") if is_known else None
        return committed

    def _new_start(
        self, at: Partition, committed: dict[Partition, StartOffset | None], found: Found
    ) -> StartOffset | None:
        """Return the start to commit for a partition, None if it needs none or has none."""
        start = committed[at]
        if start is not None:
            flagged = Flagged.parse(start.metadata)
            return start._replace(metadata=flagged.metadata) if flagged.defect else None
        try:
            start = self._translated(lambda: self._initial_offset(at))
        except Unavailable:
            found.postponed.append(at)
            return None
        if start is None:
            detail = f"{at} has no committed offset; see `erasestream repair`"
            found.broken.append(PartitionBroken(at, Defect.NO_COMMITTED_OFFSET, detail))
            return None
        log.info("partition_begun", extra={"topic": at.topic, "partition": at.number})
        return start

    def _commit(self, new: Mapping[Partition, StartOffset]) -> None:
        offsets = [
            TopicPartition(*at, each.offset, metadata=each.metadata) for at, each in new.items()
        ]
        answers = self._retry(lambda: self._consumer.commit(offsets=offsets, asynchronous=False))
        for tp in answers:
            if tp.error is not None:
                raise _translate(tp.error, f"start offset of {tp.topic}/{tp.partition}")

    def _log_starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        asked = list(partitions)
        try:
            return self._translated(
                lambda: self._offsets.log_starts(asked, timeout_s=REQUEST_TIMEOUT_S)
            )
        except (Unavailable, MissingTopic):
            return self._offsets.known_log_starts(asked, timeout_s=REQUEST_TIMEOUT_S)

    def _retry(self, request: Callable[[], T]) -> T:
        return retry(
            lambda: self._translated(request), stopping=self._stopping, max_pause_s=MAX_PAUSE_S
        )

    def _translated(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except KafkaException as exception:
            error = kafka_error(exception)
            translated = _translate(error, "committed offsets")
            if isinstance(translated, Unavailable):
                self._errors(error)
            raise translated from exception


def _logged(at: Partition, start: StartOffset) -> StartOffset:
    if start.after_loss:
        fields = {"topic": at.topic, "partition": at.number, "offset": start.offset}
        log.warning("unread_records_lost", extra=fields)
    return start


def _translate(error: KafkaError, context: str) -> Exception:
    return StaleGeneration(error.name()) if error.code() in _STALE else translate(error, context)
