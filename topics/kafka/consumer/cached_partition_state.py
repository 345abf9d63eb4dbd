"""The state that a partition's records add up to, kept between questions.

The next question reads only the records that are new.  Rules, all of them:

* A question is answered from every record that was acknowledged before it; one read answers all
  questions that were asked before it began.
* A log end before what was already read comes from a deposed leader that does not know yet, and is
  `Unavailable`; or the topic was deleted and created again, and the state starts empty.
* A failed read keeps its records; the next one begins at the same offset, and applies them again.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.consumer.partition_reader import PartitionReader
from erasestream.topics.kafka.records import Partition, Record


class State(Protocol):
    """State built from records.  Applying the same ones again, in their order, changes nothing."""

    def apply(self, record: Record) -> None:
        """Take one record into account."""


S = TypeVar("S", bound=State)


class BrokerQueries(Protocol):
    """Requests to the brokers (`OffsetQueries`)."""

    def log_end(self, at: Partition) -> int:
        """Return the offset after the last record of a partition."""

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Return the current id of each topic."""


class CachedPartitionState(Generic[S]):
    """The state of one partition.  Thread-safe."""

    def __init__(
        self,
        reads: PartitionReader,
        at: Partition,
        *,
        make: Callable[[], S],
        queries: BrokerQueries,
        deadline_s: float,
    ) -> None:
        """`make` returns a state to which nothing was applied."""
        self._reads, self._at, self._deadline_s = reads, at, deadline_s
        self._make, self._queries = make, queries
        self._topic_id: str | None = None
        self._lock = threading.Lock()
        self._state, self._reached, self._fresh_s = make(), 0, -math.inf

    @contextmanager
    def now(self) -> Iterator[tuple[S, Mark]]:
        """Lend the state as of now, and the mark up to which it was read, for a `with` block.

        Raises `Unavailable` after the deadline, or `Refused`.
        """
        asked_s = time.monotonic()
        if not self._lock.acquire(timeout=self._deadline_s):
            raise Unavailable(f"too many questions about {self._at} at once")
        try:
            # A read that began after the question answers it.
            if self._fresh_s <= asked_s:
                begun_s = time.monotonic()
                self._catch_up()
                self._fresh_s = begun_s
            yield self._state, {self._at: self._reached}
        finally:
            self._lock.release()

    def _catch_up(self) -> None:
        # Under the lock: a log end older than what was read since would look like a loss.
        end = self._queries.log_end(self._at)
        if self._topic_id is None:
            self._topic_id = self._current_topic_id()
        if end < self._reached:
            self._restart()
        begin = self._reached
        if end == begin:
            return
        reached = self._reads.read(
            self._at,
            # If the leader does not have the offset yet, the client begins at the log start.
            lambda record: self._state.apply(record) if record.offset >= begin else None,
            begin={self._at: begin} if begin else None,
            end={self._at: end},
            deadline_s=self._deadline_s,
        )
        self._reached = reached[self._at]

    def _restart(self) -> None:
        topic_id = self._current_topic_id()
        if topic_id == self._topic_id:
            raise Unavailable(f"{self._at} ends before what was already read of it")
        self._state, self._reached, self._fresh_s = self._make(), 0, -math.inf
        self._topic_id = topic_id

    def _current_topic_id(self) -> str:
        return self._queries.topic_ids([self._at.topic])[self._at.topic]


def cached_states(
    reads: PartitionReader,
    topic: str,
    count: int,
    *,
    make: Callable[[], S],
    queries: BrokerQueries,
    deadline_s: float,
) -> list[CachedPartitionState[S]]:
    """Return a cached state for each partition of the topic, which has so many."""
    partitions = [Partition(topic, number) for number in range(count)]
    return [
        CachedPartitionState(reads, at, make=make, queries=queries, deadline_s=deadline_s)
        for at in partitions
    ]
