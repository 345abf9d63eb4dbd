"""Report decisions without an entry in the ledger, and prove by the report that they have none.

A partition that was read up to its end may still lack entries: the end came from a leader that
was deposed and does not know it yet.  An acknowledged write is no such answer, because only the
leader that all in-sync replicas follow can acknowledge it.  So the finding about the decision is
written into the partition in which its entry belongs.  Once the view has read that very finding,
and each offset before it, the entry does not exist: it is acknowledged before its decision.

One finding about all decisions of a partition that are reported in a turn.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import upload_id_of_position
from erasestream.topics.catalog.topic_names import lane_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

WRITE_WAIT_S = 1.0
"""Longest wait of a turn for the brokers; slower answers are taken in a later turn."""


@dataclass
class Report:
    """A finding about the decisions of one turn; `offset` is None until it is acknowledged."""

    first: Partition
    first_offset: int
    decisions: int = 0
    offset: int | None = None
    answer: Future[Written] | None = None

    def record(self, now: datetime) -> tuple[bytes, Wire]:
        """Return its key and content."""
        at, offset, kind = self.first, self.first_offset, FindingKind.CONSENT_NOT_IN_LEDGER
        more = f", and {self.decisions - 1} others" if self.decisions > 1 else ""
        finding = Finding(
            id=upload_id_of_position(f"{kind}:{at.topic}", at.number, offset),
            time=now,
            kind=kind,
            detail=f"{at} at {offset}{more}",
        )
        return str(lane_of(at.topic)).encode(), to_wire(finding, source="/eraser")


class MissingEntries:
    """Writes the reports; `complete_to` returns up to where each offset of a partition was read."""

    def __init__(
        self,
        *,
        writes: AcknowledgedWriter,
        complete_to: Callable[[Partition], int],
        outage: OutageLog,
        now: WallClock = utc_now,
    ) -> None:
        self._writes = writes
        self._complete_to = complete_to
        self._outage = outage
        self._now = now
        self._next: dict[Partition, Report] = {}
        """Reports that get more decisions until the end of the turn."""
        self._open: list[tuple[Partition, Report]] = []
        """Reports that are not acknowledged."""

    def report(self, entries: Partition, at: Partition, offset: int) -> Report:
        """Return the report about a decision, which is written at the end of the turn.

        `entries`: the partition of the ledger in which its entry belongs.
        """
        report = self._next.setdefault(entries, Report(at, offset))
        report.decisions += 1
        return report

    def enter(self, entries: Partition, entry: Report) -> None:
        """Write this, too, at the end of the turn."""
        self._open.append((entries, entry))

    def is_proven(self, entries: Partition, report: Report) -> bool:
        """Return whether the partition was read past the report, without a gap."""
        return report.offset is not None and report.offset < self._complete_to(entries)

    def write(self) -> None:
        """Write what was reported, and what could not be written before."""
        for entries, report in self._next.items():
            fields = {"topic": report.first.topic, "partition": report.first.number}
            kind = FindingKind.CONSENT_NOT_IN_LEDGER
            log.warning("finding", extra=fields | {"offset": report.first_offset, "code": kind})
            self._open.append((entries, report))
        self._next = {}
        if not self._open:
            return
        unwritten = [each for each in self._open if each[1].answer is None]
        records = [(at, *report.record(self._now())) for at, report in unwritten]
        try:
            answers = self._writes.begin(records)
        except Unavailable as error:
            self._outage.report(error)
            return
        for (_, report), answer in zip(unwritten, answers, strict=True):
            report.answer = answer
        self._writes.wait([r.answer for _, r in unwritten if r.answer], timeout_s=WRITE_WAIT_S)
        for _, report in self._open:
            self._take_answer(report)
        self._open = [each for each in self._open if each[1].offset is None]

    def _take_answer(self, report: Report) -> None:
        if report.answer is None or not report.answer.done():
            return
        try:
            written = report.answer.result()
        except Unavailable as error:
            self._outage.report(error)
        else:
            report.offset = written.offset if written.offset >= 0 else None
        report.answer = None
