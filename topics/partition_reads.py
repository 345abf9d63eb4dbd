"""Read partitions of compacted topics as they are now, from the beginning or from a mark.

For questions about one account among many.  Clients are kept between questions: making them
costs a TLS handshake with every broker, which is most of what a question would cost.
"""

import threading
from collections.abc import Callable

from erasestream.topics.compacted import CompactedView, Mark
from erasestream.topics.connection import Connection
from erasestream.topics.record import Partition, Record
from erasestream.topics.renewal import Renewal

MAX_IDLE = 4
"""Clients that are kept for the next questions; a process that asks more at once makes more."""


class PartitionReads:
    """As many views as there are questions at a time.  Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._renewal = Renewal(connection.identity)
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
