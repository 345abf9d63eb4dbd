"""What was found to be wrong with consent records: said at once, and written to the ledger.

A finding's id is derived from the record that it is about: every router finds the same
record, again after each restart, and all their entries are one.  Ledger entries wait until
the router has time for them; brokers that are away lose none while the process lives, and
the next process finds the same.

Somebody who writes nothing but nonsense fills no memory: beyond a bound findings of one kind
in one topic are counted, and become one entry that names the first.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import upload_id_of_position
from erasestream.topics.catalog.topic_names import LEDGER, lane_of
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

log = logging.getLogger(__name__)

RETRY_S = 10.0
MAX_WAITING = 1000
"""Findings that wait one by one."""


class _Entry(NamedTuple):
    """What is to be written: about one record, or about so many from this one on."""

    kind: FindingKind
    at: Partition
    offset: int
    records: int = 1


class LedgerFindings:
    """Collects findings, and writes them when it is asked to."""

    def __init__(
        self,
        *,
        writes: AcknowledgedWriter,
        ledger_partitions: int,
        source: str = "/router",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._writes = writes
        self._ledger_partitions = ledger_partitions
        self._source = source
        self._now = now
        self._clock = clock
        self._max_waiting = max_waiting
        self._waiting: deque[_Entry] = deque()
        self._beyond: dict[tuple[FindingKind, str], _Entry] = {}
        self._not_before_s = 0.0

    def report(self, kind: FindingKind, at: Partition, offset: int) -> None:
        """Take a finding about one record."""
        beyond = self._beyond.get((kind, at.topic))
        if beyond is not None:
            self._beyond[kind, at.topic] = beyond._replace(records=beyond.records + 1)
            return
        fields = {"topic": at.topic, "partition": at.number, "offset": offset, "code": kind}
        log.warning("finding", extra=fields)
        entry = _Entry(kind, at, offset)
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(entry)
        else:
            self._beyond[kind, at.topic] = entry

    def write_one(self) -> None:
        """Write one of those that wait, if any; one that can not be written waits on.

        It waits for the brokers: not to be called with a transaction open.
        """
        if not self._waiting:
            self._waiting.extend(self._beyond.values())
            self._beyond.clear()
        if not self._waiting or self._clock() < self._not_before_s:
            return
        try:
            self._write(self._waiting[0])
        except Unavailable:
            self._not_before_s = self._clock() + RETRY_S
        else:
            self._waiting.popleft()

    def _write(self, entry: _Entry) -> None:
        kind, about, offset, records = entry
        many = records > 1
        event = Finding(
            id=upload_id_of_position(
                f"{kind}:{about.topic}{':many' if many else ''}", about.number, offset
            ),
            time=self._now(),
            kind=kind,
            detail=f"{records} records from {about} at {offset} on"
            if many
            else f"{about} at {offset}",
        )
        key = str(lane_of(about.topic)).encode()
        at = Partition(LEDGER, partition_of(key, self._ledger_partitions))
        self._writes.write(at, key, to_wire(event, source=self._source))
