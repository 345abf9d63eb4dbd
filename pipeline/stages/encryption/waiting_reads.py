"""Read records again that have waited for their lanes, once these are not behind any more.

As many as there is room for, those that were read first at the beginning.  Lanes that are behind
are looked at every `RETRY_S`.  A partition that does not answer is asked once in a turn.
"""

import time
from typing import NamedTuple, Protocol

from erasestream.pipeline.stages.encryption.bounded_reads import MAX_BATCH
from erasestream.pipeline.stages.encryption.held_records import HeldRecords, WaitingRecord
from erasestream.pipeline.stages.encryption.lane_freshness import LaneFreshness
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.records import Partition, Record

RETRY_S = 1.0


class RecordSource(Protocol):
    """Records by their position (`RecordFetcher`)."""

    def read(self, at: Partition, offset: int) -> Record | None:
        """Return the record at this offset; None if it was deleted.  Raises `Unavailable`."""


class ReadAgain(NamedTuple):
    """Records that have waited, and those whose lifetime has ended meanwhile."""

    records: list[Record]
    purged: list[WaitingRecord]


class WaitingReads:
    """Reads waiting records again."""

    def __init__(
        self, records: RecordSource, freshness: LaneFreshness, *, clock: Clock = time.monotonic
    ) -> None:
        self._records = records
        self._freshness = freshness
        self._clock = clock
        self._look_again = Deadline(RETRY_S, clock)

    def read(self, held: HeldRecords, *, room_bytes: int) -> ReadAgain:
        """Return what has waited, and fits; what is not read now goes on waiting."""
        again = ReadAgain([], [])
        if not (len(held) and room_bytes > 0 and self._look_again.has_passed):
            return again
        first = {each.lane: each.routed for each in reversed(list(held.waiting()))}
        self._freshness.fresh(first)
        ready = [each for each in held.waiting() if each.lane not in self._freshness.behind]
        silent = set[Partition]()
        for each in ready:
            if room_bytes <= 0 or len(again.records) + len(again.purged) == MAX_BATCH:
                return again
            if each.at in silent:
                continue
            try:
                room_bytes -= self._read(each, again)
            except Unavailable:
                silent.add(each.at)
        self._look_again = Deadline(RETRY_S, self._clock)
        return again

    def _read(self, waiting: WaitingRecord, again: ReadAgain) -> int:
        """Add a record, and return its size.  Raises `Unavailable`."""
        record = self._records.read(waiting.at, waiting.offset)
        if record is None:
            again.purged.append(waiting)
            return 0
        again.records.append(record)
        return len(record.value)
