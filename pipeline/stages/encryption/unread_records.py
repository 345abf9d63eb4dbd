"""Find records of `retained` whose lives have ended before they were read.

Between two records that are read one after the other are markers of transactions, and what was
aborted; so an offset that is skipped is a loss only if it is before the log's start.  The number is
an upper bound for the same reason.
"""

import time
from collections.abc import Callable

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.kafka.records import Partition

ASK_EVERY_S = 1.0
MARKER = 1
"""Offsets that the end of a transaction takes; more may be a segment that was deleted just now."""


class UnreadRecords:
    """Compares offsets with the log's start.  Asks about markers once a second at most."""

    def __init__(
        self,
        *,
        committed: Callable[[Partition], int | None],
        log_start: Callable[[Partition], int],
        clock: Clock = time.monotonic,
    ) -> None:
        """Both raise `Unavailable`; `committed` returns None for a partition without any offset."""
        self._committed = committed
        self._log_start = log_start
        self._clock = clock
        self._starts: dict[Partition, tuple[int, Deadline]] = {}

    def purged(self, at: Partition, *, expected: int | None, found: int) -> range:
        """Return the offsets between these two that are deleted.  Raises `Unavailable`.

        `expected`: None for the first record that a member reads, which the group expects from
        the offset that it has committed.
        """
        if expected is None:
            expected = self._committed(at)
        if expected is None or found <= expected:
            return range(0)
        start, again = self._starts.get(at, (0, None))
        if again is None or again.has_passed or found - expected > MARKER:
            start = self._log_start(at)
            self._starts[at] = (start, Deadline(ASK_EVERY_S, self._clock))
        return range(expected, max(expected, min(start, found)))
