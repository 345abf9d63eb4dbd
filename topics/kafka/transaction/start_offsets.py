"""Where each partition is read from, and what was committed together with that.

Both come from one answer of the group's coordinator.  A partition without a committed offset
begins where the handler can prove that nothing of it was ever handled; that is committed
before anything is: a crash in the first transaction must not make the proof impossible.

A partition whose records were deleted beyond the committed offset begins at what is left, and
the handler is told that there is a loss: it decides what that means.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.schemas.errors import InvariantBroken, Unavailable
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.producer import CALL_TIMEOUT_S

log = logging.getLogger(__name__)

WAIT_S = 0.5

_MOVED_ON = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
}

T = TypeVar("T")


class StaleGeneration(Exception):
    """The group has another generation by now: what was assigned is nobody's to begin."""


class StartOffset(NamedTuple):
    """Where a partition is read from, and the metadata of that offset."""

    offset: int
    metadata: str
    after_loss: bool = False
    """Whether records that nobody had read were deleted before this offset."""

    def among(self, log_start: int) -> "StartOffset":
        """This start in a log that begins there now."""
        if self.offset >= log_start:
            return self
        return StartOffset(log_start, self.metadata, after_loss=True)


class StartOffsets:
    """Asks for the starts of what a consumer was assigned; waits for brokers that are away."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        offsets: OffsetQueries,
        initial_offset: Callable[[Partition], StartOffset | None],
        stopping: threading.Event,
        watch: ClientErrorState,
    ) -> None:
        self._consumer = consumer
        self._offsets = offsets
        self._initial_offset = initial_offset
        self._stopping = stopping
        self._watch = watch

    def of(self, partitions: Iterable[Partition]) -> dict[Partition, StartOffset]:
        """The starts.

        Raises `StaleGeneration`; `InvariantBroken`, `Fenced`, `Unavailable` if it must end.
        """
        asked = [TopicPartition(*at) for at in partitions]
        starts = {}
        for tp in self._patiently(lambda: self._consumer.committed(asked, CALL_TIMEOUT_S)):
            at = Partition(tp.topic, tp.partition)
            if tp.error is not None:
                raise translate(tp.error, f"committed offset of {at}")
            known = tp.offset >= 0
            starts[at] = StartOffset(tp.offset, tp.metadata or "") if known else self._begun(at)
        log_starts = self._patiently(lambda: self._offsets.log_starts(starts))
        return {at: self._said(at, start.among(log_starts[at])) for at, start in starts.items()}

    def _said(self, at: Partition, start: StartOffset) -> StartOffset:
        if start.after_loss:
            fields = {"topic": at.topic, "partition": at.number, "offset": start.offset}
            log.warning("unread_records_lost", extra=fields)
        return start

    def _begun(self, at: Partition) -> StartOffset:
        start = self._patiently(lambda: self._initial_offset(at))
        if start is None:
            raise InvariantBroken(f"{at} has no committed offset; see `erasestream repair`")
        place = TopicPartition(*at, start.offset, metadata=start.metadata)
        answers = self._patiently(
            lambda: self._consumer.commit(offsets=[place], asynchronous=False)
        )
        for tp in answers:
            if tp.error is not None:
                raise _said_of(tp.error, f"first offset of {at}")
        log.info("partition_begun", extra={"topic": at.topic, "partition": at.number})
        return start

    def _patiently(self, question: Callable[[], T]) -> T:
        while True:
            try:
                return question()
            except KafkaException as exception:
                error = kafka_error(exception)
                away = isinstance(_said_of(error, ""), Unavailable)
                if not away or self._stopping.is_set():
                    raise _said_of(error, "committed offsets") from exception
                self._watch(error)
            except Unavailable:
                if self._stopping.wait(WAIT_S):
                    raise


def _said_of(error: KafkaError, context: str) -> Exception:
    return StaleGeneration(error.name()) if error.code() in _MOVED_ON else translate(error, context)
