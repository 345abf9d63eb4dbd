"""Read partitions of compacted topics as they are now, from the beginning or from a mark.

For questions about one account among many.  Clients are kept between reads: constructing them
costs a TLS handshake with every broker, which is most of what a read would cost.
"""

import threading
from collections.abc import Callable

from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, Mark, each
from erasestream.topics.kafka.records import Partition, Record

MAX_IDLE = 16
"""Clients that are kept for the next reads, if so many ran at once; more reads at once construct
more.  With four, twenty decisions a second on a busy machine made 250 connections a second, whose
handshakes kept it busy (measured)."""

FETCH_WAIT_MS = 100
"""Short, because the next read may be of another partition: see `compacted_view.py`."""


class PartitionReader:
    """A pool of views, one for each read at a time.  Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._certificate = CertificateWatcher(connection.identity)
        self._lock = threading.Lock()
        self._idle: list[CompactedView] = []
        self._generation = 0
        """Grows when idle views are closed; a view of an earlier generation is not used again."""
        self._is_closed = False

    def read(
        self,
        at: Partition,
        apply: Callable[[Record], None],
        *,
        begin: Mark | None = None,
        end: Mark | None = None,
        deadline_s: float,
    ) -> Mark:
        """Apply every record that was acknowledged before the call; return how far it read.

        `begin` and `end`: from there instead of the log start, and up to there instead of the log
        end.  Raises `Unavailable` after the deadline, or `Refused`.
        """
        view, generation = self._take(apply)
        try:
            view.assign([at], each(apply), start=begin)
            view.catch_up(end or view.mark(), deadline_s=deadline_s)
            reached = dict(view.applied)
            view.unassign()
        except BaseException:
            view.close()
            raise
        self._give_back(view, generation)
        return reached

    def close(self) -> None:
        """Close the idle views; those of reads that still run are closed at their end."""
        with self._lock:
            self._is_closed = True
            idle = self._take_idle()
        _close(idle)

    def _take(self, apply: Callable[[Record], None]) -> tuple[CompactedView, int]:
        outdated: list[CompactedView] = []
        with self._lock:
            if self._certificate.is_due():
                outdated = self._take_idle()
            generation, idle = self._generation, self._idle.pop() if self._idle else None
        _close(outdated)
        view = idle or CompactedView(
            connection=self._connection, topics={}, apply=apply, fetch_wait_ms=FETCH_WAIT_MS
        )
        return view, generation

    def _take_idle(self) -> list[CompactedView]:
        idle, self._idle = self._idle, []
        self._generation += 1
        return idle

    def _give_back(self, view: CompactedView, generation: int) -> None:
        with self._lock:
            is_current = generation == self._generation and not self._is_closed
            is_kept = is_current and len(self._idle) < MAX_IDLE
            if is_kept:
                self._idle.append(view)
        if not is_kept:
            view.close()


def _close(views: list[CompactedView]) -> None:
    for view in views:
        view.close()
