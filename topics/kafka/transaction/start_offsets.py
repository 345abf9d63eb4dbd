"""Find where each assigned partition is read from, and the metadata that belongs to it.

Rules, all of them:

1. Offset and metadata of a partition come from one answer of the group coordinator.
2. A partition without a committed offset starts where the handler can prove that nothing of it
   was ever handled; if it cannot, the process stops.  That start is committed before anything
   else, so that a crash in the first transaction does not make the proof impossible.
3. A partition whose records were deleted beyond the committed offset starts at the log start.
   The loss is logged and marked (`after_loss`); the handler decides what it means.
4. Unavailable brokers are retried until the stage is to stop.
5. If the group has rebalanced meanwhile, the assignment is stale and nothing is found.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.schemas.errors import InvariantBroken, Unavailable
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition

log = logging.getLogger(__name__)

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

    def find(self, partitions: Iterable[Partition]) -> dict[Partition, StartOffset]:
        """Return the start offset of each partition.

        Raises `StaleGeneration`; `InvariantBroken` or `Fenced`; `Unavailable` once the stage is
        to stop.
        """
        asked = [TopicPartition(*at) for at in partitions]
        starts = {}
        for tp in self._retry(lambda: self._consumer.committed(asked, REQUEST_TIMEOUT_S)):
            at = Partition(tp.topic, tp.partition)
            if tp.error is not None:
                raise translate(tp.error, f"committed offset of {at}")
            if tp.offset >= 0:
                starts[at] = StartOffset(tp.offset, tp.metadata or "")
            else:
                starts[at] = self._commit_initial_offset(at)
        log_starts = self._retry(lambda: self._offsets.log_starts(starts))
        starts = {at: start.within(log_starts[at]) for at, start in starts.items()}
        for at, start in starts.items():
            if start.after_loss:
                fields = {"topic": at.topic, "partition": at.number, "offset": start.offset}
                log.warning("unread_records_lost", extra=fields)
        return starts

    def _commit_initial_offset(self, at: Partition) -> StartOffset:
        start = self._retry(lambda: self._initial_offset(at))
        if start is None:
            raise InvariantBroken(f"{at} has no committed offset; see `erasestream repair`")
        offset = TopicPartition(*at, start.offset, metadata=start.metadata)
        answers = self._retry(lambda: self._consumer.commit(offsets=[offset], asynchronous=False))
        for tp in answers:
            if tp.error is not None:
                raise _translate(tp.error, f"initial offset of {at}")
        log.info("partition_begun", extra={"topic": at.topic, "partition": at.number})
        return start

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


def _translate(error: KafkaError, context: str) -> Exception:
    return StaleGeneration(error.name()) if error.code() in _STALE else translate(error, context)
