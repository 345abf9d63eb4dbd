"""What was found to be wrong with consent records: said at once, and written to the ledger.

A finding's id is derived from the record that it is about: every router finds the same
record, again after each restart, and all their entries are one.  Ledger entries wait until
the router has time for them; brokers that are away lose none while the process lives, and
the next process finds the same.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from erasestream.schemas.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import upload_id_of_position
from erasestream.schemas.ledger import Finding, FindingKind
from erasestream.topics.catalog import LEDGER, lane_of
from erasestream.topics.partitioner import partition_of
from erasestream.topics.record import Partition
from erasestream.topics.single_writes import SingleWrites

log = logging.getLogger(__name__)

MOST_AT_ONCE = 10
"""Entries per call, so that routing goes on whatever somebody wrote."""
RETRY_S = 10.0


class Findings:
    """Collects findings, and writes them when it is asked to."""

    def __init__(
        self,
        *,
        writes: SingleWrites,
        ledger_partitions: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writes = writes
        self._ledger_partitions = ledger_partitions
        self._now = now
        self._clock = clock
        self._waiting: deque[tuple[FindingKind, Partition, int]] = deque()
        self._not_before_s = 0.0

    def found(self, kind: FindingKind, at: Partition, offset: int) -> None:
        """Take a finding about one record."""
        fields = {"topic": at.topic, "partition": at.number, "offset": offset, "code": kind}
        log.warning("finding", extra=fields)
        self._waiting.append((kind, at, offset))

    def write_some(self) -> None:
        """Write a few of those that wait; those that can not be written wait on."""
        if not self._waiting or self._clock() < self._not_before_s:
            return
        for _ in range(min(len(self._waiting), MOST_AT_ONCE)):
            try:
                self._write(*self._waiting[0])
            except Unavailable:
                self._not_before_s = self._clock() + RETRY_S
                return
            self._waiting.popleft()

    def _write(self, kind: FindingKind, about: Partition, offset: int) -> None:
        event = Finding(
            id=upload_id_of_position(f"{kind}:{about.topic}", about.number, offset),
            time=self._now(),
            kind=kind,
            detail=f"{about} at {offset}",
        )
        key = str(lane_of(about.topic)).encode()
        at = Partition(LEDGER, partition_of(key, self._ledger_partitions))
        self._writes.write(at, key, to_wire(event, source="/router"))
