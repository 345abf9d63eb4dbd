"""End offsets to catch up with, where some leaders may not answer.

A partition whose leader does not answer, or that makes no progress, is stuck.  Until it makes some,
its end is asked for with a short timeout, and nothing waits for its records.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition

STUCK_S = 0.2
"""Longest wait for the end offset of a partition that was not reached before."""


class AwaitedEnds:
    """Asks for end offsets, and remembers which partitions are stuck."""

    def __init__(self, offsets: OffsetQueries) -> None:
        self._offsets = offsets
        self._stuck: set[Partition] = set()

    def ask(
        self, partitions: AbstractSet[Partition], timeout_s: float
    ) -> tuple[Mapping[Partition, int], Mapping[Partition, int]]:
        """Return the ends that are worth waiting for, and the others.

        Of the partitions whose leaders answer in time.
        """
        awaited = self._ends_of(partitions - self._stuck, timeout_s)
        return awaited, self._ends_of(partitions & self._stuck, STUCK_S)

    def note_stuck(self, asked: AbstractSet[Partition], stuck: AbstractSet[Partition]) -> None:
        """Note which of the partitions asked for have made no progress."""
        self._stuck = self._stuck - asked | stuck

    def _ends_of(self, partitions: Collection[Partition], timeout_s: float) -> dict[Partition, int]:
        """Return the ends of those whose leaders answer in time."""
        if not partitions:
            return {}
        return self._offsets.known_log_ends(partitions, timeout_s=timeout_s)
