"""Read as many records as there is room for, and stay in the group while there is none.

While the bucket is unavailable nothing leaves, so there may be no room for hours.  A member that
does not poll for 300 s loses its partitions; so it polls, with its partitions paused.
"""

import time
from collections.abc import Callable

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.records import Record

MAX_BATCH = 32
"""Records that are read at once."""
MAX_SILENCE_S = 60.0
"""Longest time between two polls."""


class BoundedReads:
    """Reads from a queue, bounded in bytes."""

    def __init__(
        self,
        queue: WorkQueue,
        *,
        wait: Callable[[float], None],
        clock: Clock = time.monotonic,
    ) -> None:
        """`wait` waits for room, at most for this time."""
        self._queue = queue
        self._wait = wait
        self._clock = clock
        self._poll_again = Deadline(MAX_SILENCE_S, clock)

    def read(self, timeout_s: float, *, room_bytes: int) -> list[Record]:
        """Return the records that fit, the last of them perhaps only in part.

        Waits up to the timeout, for a record or for room.
        """
        if room_bytes > 0:
            self._queue.pause(())
            records = self._queue.read(timeout_s=timeout_s, most=MAX_BATCH, max_bytes=room_bytes)
        else:
            self._wait(timeout_s)
            if not self._poll_again.has_passed:
                return []
            self._queue.pause([RETAINED])
            records = self._queue.read(timeout_s=0, most=1)
        self._poll_again = Deadline(MAX_SILENCE_S, self._clock)
        return records
