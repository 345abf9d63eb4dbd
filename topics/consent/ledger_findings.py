"""Findings about consent records and partitions: logged, and written to the lane's ledger later.

A finding's id is derived from the position of its record: every router finds the same record,
again after each restart, and all their entries are one.  Entries wait until the router has time
to write them; while brokers are unavailable none is lost as long as the process lives, and the
next process finds the same.

A flood of invalid records takes no memory: above a bound, findings of one kind in one topic are
counted, and become one entry that names the first.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from erasestream.schemas.clocks import Clock, Deadline, WallClock
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import upload_id_of_position
from erasestream.topics.catalog.topic_names import lane_of
from erasestream.topics.consent.ledger_place import place_of_findings
from erasestream.topics.kafka.partition_broken import PartitionBroken
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

log = logging.getLogger(__name__)

RETRY_S = 10.0
MAX_WAITING = 1000
"""Waiting findings, beyond which they are only counted."""


class _Entry(NamedTuple):
    """A finding to write: about one record, or about several from this one on."""

    kind: FindingKind
    at: Partition
    offset: int
    records: int = 1
    note: str = ""


class LedgerFindings:
    """Queue of findings, written one at a time on request."""

    def __init__(
        self,
        *,
        writes: AcknowledgedWriter,
        partitions: Mapping[str, int],
        source: str = "/router",
        now: WallClock = lambda: datetime.now(UTC),
        clock: Clock = time.monotonic,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`partitions`: the partition counts of the lanes' ledgers."""
        self._writes = writes
        self._partitions = partitions
        self._source = source
        self._now = now
        self._clock = clock
        self._max_waiting = max_waiting
        self._waiting: deque[_Entry] = deque()
        self._beyond: dict[tuple[FindingKind, str], _Entry] = {}
        self._pause = Deadline(0.0, clock)

    def report(self, kind: FindingKind, at: Partition, offset: int) -> None:
        """Log a finding about one record, and queue it."""
        beyond = self._beyond.get((kind, at.topic))
        if beyond is not None:
            self._beyond[kind, at.topic] = beyond._replace(records=beyond.records + 1)
            return
        fields = {"topic": at.topic, "partition": at.number, "offset": offset, "code": kind}
        log.warning("finding", extra=fields)
        self._queue(_Entry(kind, at, offset))

    def report_quarantined(self, broken: PartitionBroken) -> None:
        """Queue a finding about a partition that is not read any more."""
        kind, note = FindingKind.PARTITION_QUARANTINED, f": {broken.defect}"
        self._queue(_Entry(kind, broken.at, broken.offset, note=note))

    def _queue(self, entry: _Entry) -> None:
        kind, at = entry.kind, entry.at
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(entry)
        else:
            self._beyond[kind, at.topic] = entry

    def write_one(self) -> None:
        """Write the oldest finding, if any; while brokers are unavailable it stays queued.

        Waits for the brokers: do not call it with a transaction open.
        """
        if not self._waiting:
            self._waiting.extend(self._beyond.values())
            self._beyond.clear()
        if not self._waiting or not self._pause.has_passed:
            return
        try:
            self._write(self._waiting[0])
        except Unavailable:
            self._pause = Deadline(RETRY_S, self._clock)
        else:
            self._waiting.popleft()

    def _write(self, entry: _Entry) -> None:
        kind, about, offset, records, note = entry
        if note:
            name = f"{kind}:{about.topic}:{note}"
            detail = f"{about}{note}" if offset < 0 else f"{about} at {offset}{note}"
        elif records > 1:
            name = f"{kind}:{about.topic}:many"
            detail = f"{records} records from {about} at {offset} on"
        else:
            name = f"{kind}:{about.topic}"
            detail = f"{about} at {offset}"
        event = Finding(
            id=upload_id_of_position(name, about.number, max(offset, 0)),
            time=self._now(),
            kind=kind,
            detail=detail,
        )
        at, key = place_of_findings(lane_of(about.topic), self._partitions)
        self._writes.write(at, key, to_wire(event, source=self._source))
