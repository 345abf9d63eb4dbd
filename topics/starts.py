"""Where each partition is read from, and what was committed together with that.

Both come from one answer of the group's coordinator.  A partition without a committed offset
begins where the handler can prove that nothing of it was ever handled; that is committed
before anything is: a crash in the first transaction must not make the proof impossible.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from erasestream.schemas.errors import InvariantBroken, Unavailable
from erasestream.topics.connection import ErrorWatch, kafka_error, translate
from erasestream.topics.record import Partition
from erasestream.topics.transactional_writes import CALL_TIMEOUT_S

log = logging.getLogger(__name__)

WAIT_S = 0.5

T = TypeVar("T")


class Start(NamedTuple):
    """Where a partition is read from, and the metadata of that offset."""

    offset: int
    metadata: str


class Starts:
    """Asks for the starts of what a consumer was assigned; waits for brokers that are away."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        first_start: Callable[[Partition], Start | None],
        stopping: threading.Event,
        watch: ErrorWatch,
    ) -> None:
        self._consumer = consumer
        self._first_start = first_start
        self._stopping = stopping
        self._watch = watch

    def of(self, partitions: Iterable[Partition]) -> dict[Partition, Start]:
        """The starts.  Raises `InvariantBroken`, `Fenced`, `Unavailable` if it shall end."""
        asked = [TopicPartition(*at) for at in partitions]
        starts = {}
        for tp in self._patiently(lambda: self._consumer.committed(asked, CALL_TIMEOUT_S)):
            at = Partition(tp.topic, tp.partition)
            if tp.error is not None:
                raise translate(tp.error, f"committed offset of {at}")
            known = tp.offset >= 0
            starts[at] = Start(tp.offset, tp.metadata or "") if known else self._begun(at)
        return starts

    def _begun(self, at: Partition) -> Start:
        start = self._patiently(lambda: self._first_start(at))
        if start is None:
            raise InvariantBroken(f"{at} has no committed offset; see `erasestream repair`")
        place = TopicPartition(*at, start.offset, metadata=start.metadata)
        answers = self._patiently(
            lambda: self._consumer.commit(offsets=[place], asynchronous=False)
        )
        for tp in answers:
            if tp.error is not None:
                raise translate(tp.error, f"first offset of {at}")
        log.info("partition_begun", extra={"topic": at.topic, "partition": at.number})
        return start

    def _patiently(self, question: Callable[[], T]) -> T:
        while True:
            try:
                return question()
            except KafkaException as exception:
                error = kafka_error(exception)
                away = isinstance(translate(error), Unavailable)
                if not away or self._stopping.is_set():
                    raise translate(error, "committed offsets") from exception
                self._watch(error)
            except Unavailable:
                if self._stopping.wait(WAIT_S):
                    raise
