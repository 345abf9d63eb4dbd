"""Reader of a lane's results: what a subscription does, whether its caller is a thread or a task.

* `release` and `close` can be called from any thread, a signal handler of a waiting thread and
  `__del__` included (`fetch_thread.py`).
* Every wait is bounded: a call returns at its timeout, whatever the brokers do.
* Used in another process than the one that made it, it raises `Refused` (used_after_fork).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.schemas.errors import ClientClosed, Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation, group_prefix
from erasestream.topics.catalog.roles import LaneRole, Role, lane_role
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.client import open_readers
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.delivery_queue import DeliveryQueue
from erasestream.topics.client.fetch_thread import (
    FetchSession,
    LockedAcknowledgements,
    start_fetching,
)
from erasestream.topics.client.opening_thread import start_opening
from erasestream.topics.client.result_opening import ResultOpener
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.consumer.group_consumer import SESSION_S, GroupConsumer
from erasestream.topics.kafka.records import Partition

_GROUP = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ReceivingLimits:
    """Bounds on memory and time."""

    max_queued_bytes: int = 32_000_000
    """Bytes to prefetch; exceeded by at most one fetch, which is one record or 16 MB."""
    remember: int = 65_536
    """Results that are remembered to detect duplicates, about 300 bytes each."""
    commit_every_s: float = 1.0
    """Interval of commits; later acknowledgements are redelivered after a kill."""
    max_processing_s: float = 300.0
    """Longest time between two polls; after it the partitions go to another member."""
    readiness_s: float = 15.0
    """Longest wait for the brokers' first answer."""
    close_s: float = 10.0
    """Longest wait of `close` for the brokers."""

    def __post_init__(self) -> None:
        if self.max_processing_s < SESSION_S:
            raise Refused(f"max_processing_s must be at least {SESSION_S:g}")

    @property
    def ahead_bytes(self) -> int:
        """Bytes that are fetched ahead of the callers; the rest waits in librdkafka."""
        return self.max_queued_bytes // 4


SLICE_S = 1.0
"""Longest wait of a caller between two looks at the queue (`fetch_thread.py`)."""


UNCOMMITTED = (
    "{count} acknowledgements in {topic} were not committed: these results will be delivered again"
)


class ResultReader:
    """Reader of a lane's results in a group of the role `<lane>.consumer`.  Thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits,
        clock: Clock,
        now: WallClock,
    ) -> None:
        self.close_s = limits.close_s
        self._topic = ephemeral_of(lane)
        self._clock = clock
        self._is_closed = False
        self.queue = _queue(limits, clock)
        self._session = FetchSession(self.queue, clock)
        opener = ResultOpener.of(cluster, lane, now=now)
        role = lane_role(lane, LaneRole.CONSUMER)
        member = _member(cluster, role, self._topic, group, self._session, limits, clock)
        start_fetching(self._session, member, opener, role)
        start_opening(self._session, opener, role)
        open_readers.opened(self)

    def check_usable(self) -> None:
        """Raise `Refused` (used_after_fork, closed) if the reader cannot be used."""
        self.queue.check_process()
        if self._session.is_closing:
            raise ClientClosed

    def poll(self, timeout_s: float, is_stopped: Callable[[], bool]) -> Delivery | None:
        """Return the next result, or None at the timeout, when stopped or when closed meanwhile."""
        self.check_usable()
        if (delivery := self.take()) is not None:
            return delivery
        deadline = Deadline(timeout_s, self._clock)
        with self.waiting(), self._session.changed:
            while not self._session.is_closing:
                delivery = self.take()
                if delivery is not None or deadline.has_passed or is_stopped():
                    return delivery
                self._session.changed.wait(deadline.slice_s(SLICE_S))
        return None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let results be fetched during the block."""
        with self._session.changed:
            self._session.waiting += 1
            self._session.changed.notify_all()
        try:
            yield
        finally:
            with self._session.changed:
                self._session.waiting -= 1

    def take(self) -> Delivery | None:
        """Return a result that was fetched; raise the error that ended the fetching."""
        session = self._session
        with session.changed:
            delivery = None if session.is_paused else self.queue.take()
            if delivery is None and session.failure is not None:
                failure, session.failure = session.failure, None
                raise failure
            session.want()
        return delivery

    def pause(self, *, is_paused: bool) -> None:
        """Deliver nothing, or go on."""
        self.check_usable()
        self._session.is_paused = is_paused
        self._session.notify()

    def seek(self, partition: int, offset: int) -> None:
        """Deliver an assigned partition from this offset on."""
        self.check_usable()
        with self._session.changed:
            self.queue.seek(Partition(self._topic, partition), offset)
        self._session.notify()

    def on_news(self, tell: Callable[[], None]) -> None:
        """Call this after every change, in the thread that made it."""
        self._session.on_news.append(tell)

    def notify(self) -> None:
        """Wake all who wait.  Does nothing after a fork, whose parent may have held the lock."""
        if self.is_of_this_process:
            self._session.notify()

    def release(self) -> None:
        """Begin to commit and to leave the group.  Never blocks; from anywhere; idempotent."""
        self._session.is_closing = True
        self.notify()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made it, not one that forked this one."""
        return self.queue.is_of_this_process

    @property
    def is_closing(self) -> bool:
        """Whether it was released."""
        return self._session.is_closing

    @property
    def has_ended(self) -> bool:
        """Whether the group is left."""
        return self._session.has_ended

    def close(self, timeout_s: float | None = None) -> None:
        """Commit everything acknowledged and leave the group, within `limits.close_s` by default.

        Raises as `check_committed`.
        """
        timeout_s = self.close_s if timeout_s is None else timeout_s
        self.queue.check_process()
        self.release()
        with self._session.changed:
            self._session.changed.wait_for(lambda: self.has_ended, timeout_s)
        self.check_committed()

    def check_committed(self) -> None:
        """Raise `Unavailable`, once, if acknowledgements could not be committed in time."""
        open_readers.closed(self)
        was_closed, self._is_closed = self._is_closed, True
        count = self._session.uncommitted
        if count and not was_closed:
            raise Unavailable(UNCOMMITTED.format(count=count, topic=self._topic))


def _queue(limits: ReceivingLimits, clock: Clock) -> DeliveryQueue:
    return DeliveryQueue(remember=limits.remember, max_bytes=limits.ahead_bytes, clock=clock)


def _member(
    cluster: Cluster,
    role: Role,
    topic: str,
    group: str,
    session: FetchSession,
    limits: ReceivingLimits,
    clock: Clock,
) -> GroupConsumer:
    """Join the group, if this role may read the topic."""
    if not _GROUP.fullmatch(group):
        raise Refused("the name of a group must match [A-Za-z0-9._-]{1,64}")
    connection = Connection(cluster=cluster, role=role)
    with Admin(connection, timeout_s=limits.readiness_s) as admin:
        admin.check_rights({topic: [Operation.READ]})
    return GroupConsumer(
        connection=connection,
        topic=topic,
        group=group_prefix(role) + group,
        acknowledgements=LockedAcknowledgements(session),
        is_closing=lambda: session.is_closing,
        max_queued_bytes=limits.max_queued_bytes - limits.ahead_bytes,
        max_processing_s=limits.max_processing_s,
        commit_every_s=limits.commit_every_s,
        clock=clock,
    )
