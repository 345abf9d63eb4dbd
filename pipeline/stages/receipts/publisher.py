"""Hand receipts to the account pages of gateways: write each to `receipts.L`, once it is cosigned.

A gateway reads no log and holds no secret.  So this stage, which derives the salts of receipts,
issues the receipt of each decision and erasure of a lane with a gateway as soon as the auditor has
cosigned its leaf.

* `receipts.L` is the list of what is done: read first, so that a restart repeats none.  Two
  stages at once may write one twice; readers take the first.
* At most `MAX_PENDING` receipts wait in memory; until some are cosigned, no more entries are read.
  Of those that are published, memory has the ids, about 100 bytes each.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from erasestream.pipeline.stages.receipts.issuer import ReceiptIssuer
from erasestream.pipeline.stages.receipts.leaves import Attested, LeafBuilder
from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent, ProofRefused
from erasestream.schemas.events.ledger import ReceiptIssued
from erasestream.topics.catalog.topic_names import lane_of, receipts_of
from erasestream.topics.consent.ledger_place import belongs
from erasestream.topics.kafka.records import Partition, Record

log: logging.Logger = logging.getLogger(__name__)

PUBLISH_EVERY_S = 5.0
MAX_PENDING = 10_000
"""Receipts that wait for the auditor, about 2 KB each."""
LOAD_DEADLINE_S = 15.0
"""Longest wait for what was written before; then the next turn goes on."""


class EntryReader(Protocol):
    """Reads topics from their beginning (`CompactedView`)."""

    def catch_up_reachable(
        self, partitions: Iterable[Partition], *, deadline_s: float
    ) -> set[Partition]:
        """Apply what is acknowledged in these, and return where that is done."""

    def read(self, timeout_s: float) -> int:
        """Apply what has arrived, waiting up to the timeout for the first record."""

    def replace_if_lost(self) -> None:
        """Replace a client that has lost its brokers."""


class ReceiptQueue:
    """Receipts that are published, and those that wait.  Pure."""

    def __init__(self, builder: LeafBuilder, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts of the lanes' topics of receipts."""
        self._builder = builder
        self._partitions = partitions
        self._published: set[str] = set()
        self.pending: dict[str, Attested] = {}

    def apply_published(self, record: Record) -> None:
        """Apply a record of `receipts.L`."""
        try:
            event = from_wire(ReceiptIssued, record.headers, record.value)
        except InvalidEvent:
            return
        if belongs(record, receipts_of(lane_of(record.at.topic)), event.account, self._partitions):
            self.done(event.id)

    def apply_entry(self, record: Record) -> None:
        """Apply an entry of a ledger, or of erasures."""
        attested = self._builder.build(record)
        if attested and attested.subject and attested.leaf.id not in self._published:
            self.pending[attested.leaf.id] = attested

    def done(self, receipt_id: str) -> None:
        """Note that a receipt is published."""
        self._published.add(receipt_id)
        self.pending.pop(receipt_id, None)


class ReceiptPublisher:
    """Publishes receipts in turns."""

    def __init__(
        self,
        *,
        queue: ReceiptQueue,
        published: EntryReader,
        entries: EntryReader,
        partitions: Sequence[Partition],
        issuer: Callable[[], ReceiptIssuer],
        write: Callable[[ReceiptIssued], None],
        clock: Clock = time.monotonic,
        now: WallClock = utc_now,
    ) -> None:
        """`partitions`: those that `published` reads; `issuer` opens the log as it is now."""
        self._queue = queue
        self._published = published
        self._entries = entries
        self._unread = set(partitions)
        self._issuer = issuer
        self._write = write
        self._clock = clock
        self._now = now
        self._due = Deadline(0, clock)

    def run_once(self) -> None:
        """Do one turn, without waiting.  Raises `Unavailable`."""
        if self._unread:
            reached = self._published.catch_up_reachable(self._unread, deadline_s=LOAD_DEADLINE_S)
            self._unread -= reached
        if self._unread:
            return
        if len(self._queue.pending) < MAX_PENDING:
            self._entries.read(0)
            self._entries.replace_if_lost()
        if self._queue.pending and self._due.has_passed:
            self._publish()
            self._due = Deadline(PUBLISH_EVERY_S, self._clock)

    def _publish(self) -> None:
        try:
            issuer = self._issuer()
            for attested in list(self._queue.pending.values()):
                raw = issuer.issue(attested)
                if raw is not None:
                    self._publish_one(attested, raw)
        except ProofRefused as error:  # the log is written on; a person has to look
            fields = {"code": error.code, "reason": error.detail}
            log.warning("receipts_not_published", extra=fields)

    def _publish_one(self, attested: Attested, raw: bytes) -> None:
        """Write a receipt; leave out one that no event holds, so that it holds up no other."""
        try:
            event = self._event(attested, raw)
        except (InvalidEvent, ValueError):
            reason = f"receipt {attested.leaf.id}: {len(raw)} bytes"
            log.critical("receipt_not_published", extra={"reason": reason})
        else:
            self._write(event)
        self._queue.done(attested.leaf.id)

    def _event(self, attested: Attested, raw: bytes) -> ReceiptIssued:
        leaf, subject = attested
        if subject is None:
            raise ValueError("a receipt of no account")
        return ReceiptIssued(
            id=leaf.id,
            time=self._now(),
            lane=subject.lane,
            account=subject.account,
            kind=leaf.kind,
            about=subject.about,
            receipt=raw.decode(),
        )
