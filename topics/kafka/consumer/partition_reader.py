"""Read partitions of compacted topics as they are now, from the beginning or from a mark.

For questions about one account among many.  Clients are kept between questions: making them
costs a TLS handshake with every broker, which is most of what a question would cost.  What was
read can be kept, too (`CachedPartitionState`): the next question reads only what is new.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, Mark
from erasestream.topics.kafka.records import Partition, Record

MAX_IDLE = 16
"""Clients that are kept for the next questions, if so many were asked at once; who asks more at
once makes more.  With four, twenty decisions a second on a busy machine made 250 connections a
second, whose handshakes kept it busy (measured)."""


class PartitionReader:
    """As many views as there are questions at a time.  Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._renewal = CertificateWatcher(connection.identity)
        self._lock = threading.Lock()
        self._idle: list[CompactedView] = []
        self._age = 0
        """How often the certificate was renewed; views of before are not used again."""

    def read(
        self,
        at: Partition,
        apply: Callable[[Record], None],
        *,
        begin: Mark | None = None,
        end: Mark | None = None,
        deadline_s: float,
    ) -> Mark:
        """Apply every record that was acknowledged before this was called; how far that is.

        `begin` and `end`: from there instead of the beginning, and up to there instead.
        Raises `Unavailable` after the deadline, or `Refused`.
        """
        view, age = self._take(at, apply, begin)
        try:
            view.catch_up(end or view.mark(), deadline_s=deadline_s)
            reached = dict(view.applied)
            view.rest()
        except BaseException:
            view.close()
            raise
        self._give_back(view, age)
        return reached

    def _take(
        self, at: Partition, apply: Callable[[Record], None], begin: Mark | None
    ) -> tuple[CompactedView, int]:
        with self._lock:
            if self._renewal.is_due():
                self._age += 1
                for view in self._idle:
                    view.close()
                self._idle = []
            age, idle = self._age, self._idle.pop() if self._idle else None
        view = idle or CompactedView(connection=self._connection, topics={}, apply=apply)
        try:
            view.begin([at], apply, start=begin)
        except BaseException:
            view.close()
            raise
        return view, age

    def _give_back(self, view: CompactedView, age: int) -> None:
        with self._lock:
            is_of_use = age == self._age and len(self._idle) < MAX_IDLE
            if is_of_use:
                self._idle.append(view)
        if not is_of_use:
            view.close()


class State(Protocol):
    """What records add up to.  The same records again, in their order, change nothing."""

    def apply(self, record: Record) -> None:
        """Take one record into account."""


S = TypeVar("S", bound=State)


class BrokerQueries(Protocol):
    """What is asked of the brokers (`OffsetQueries`)."""

    def log_end(self, at: Partition) -> int:
        """The offset behind the last record of a partition."""

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """The id that each topic has now."""


class CachedPartitionState(Generic[S]):
    """The state of one partition, kept between questions.  Thread-safe.

    A partition that reaches less far than what was read has a leader that was deposed and does
    not know that yet: it is not believed.  Or its topic was made anew: then so is the state.
    """

    def __init__(
        self,
        reads: PartitionReader,
        at: Partition,
        *,
        make: Callable[[], S],
        queries: BrokerQueries,
        deadline_s: float,
    ) -> None:
        """`make`: a state to which nothing was applied yet."""
        self._reads, self._at, self._deadline_s = reads, at, deadline_s
        self._make, self._queries = make, queries
        self._topic_id: str | None = None
        self._lock = threading.Lock()
        self._state, self._reached, self._fresh_s = make(), 0, -math.inf

    @contextmanager
    def now(self) -> Iterator[tuple[S, Mark]]:
        """The state as of now, for as long as this lasts, and how far it was read for that.

        Raises `Unavailable` after the deadline, or `Refused`.
        """
        asked_s = time.monotonic()
        if not self._lock.acquire(timeout=self._deadline_s):
            raise Unavailable("many ask about the same partition")
        try:
            # What somebody else began to read after we had asked answers us, too.
            if self._fresh_s <= asked_s:
                begun_s = time.monotonic()
                self._catch_up()
                self._fresh_s = begun_s
            yield self._state, {self._at: self._reached}
        finally:
            self._lock.release()

    def _catch_up(self) -> None:
        # Asked by one at a time: a mark that is older than what was read would look like a loss.
        end = self._queries.log_end(self._at)
        if self._topic_id is None:
            self._topic_id = self._id_now()
        if end < self._reached:
            self._begin_anew()
        begin = self._reached
        if end == begin:
            return
        reached = self._reads.read(
            self._at,
            # A leader that does not have the beginning yet lets the client begin at its own.
            lambda record: self._state.apply(record) if record.offset >= begin else None,
            begin={self._at: begin} if begin else None,
            end={self._at: end},
            deadline_s=self._deadline_s,
        )
        self._reached = reached[self._at]

    def _begin_anew(self) -> None:
        topic_id = self._id_now()
        if topic_id == self._topic_id:
            raise Unavailable(f"{self._at} reaches less far than it did")
        self._state, self._reached, self._fresh_s = self._make(), 0, -math.inf
        self._topic_id = topic_id

    def _id_now(self) -> str:
        return self._queries.topic_ids([self._at.topic])[self._at.topic]
