"""Evaluate decisions that are read and not done, and track which offsets may be committed.

* While no leader shows the account's partition of the ledger, nothing is known: the decision
  waits, however long.
* Where a leader shows the ledger without the decision's entry, the ledger may be out of date (a
  deposed leader that does not know it yet shows the state before the change): the decision
  waits `LEDGER_LAG_S` for its entry.
* After that it is reported as a finding, once, and ends all grants that it may end.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import (
    EndedGrant,
    account_of,
    ended_grants,
    ended_in_doubt,
)
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import FindingKind
from erasestream.topics.catalog.topic_names import lane_of
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.records import Partition, Record

LEDGER_LAG_S = 60.0
"""Wait of a decision for its entry: much longer than a deposed leader goes unnoticed."""


class PendingDecision(NamedTuple):
    """A decision that is read and not done."""

    record: Record
    entry_due: Deadline | None = None
    """When its entry counts as missing; None unless the ledger was shown without it."""
    is_reported: bool = False
    """True once the missing entry was reported as a finding."""


class Evaluation(NamedTuple):
    """A decision and the grants that it ends; None as long as they are unknown."""

    pending: PendingDecision
    ended: list[EndedGrant] | None


class DecisionEvaluator:
    """Determines what pending decisions end."""

    def __init__(
        self, *, eraser: GrantEraser, findings: LedgerFindings, outage: OutageLog, clock: Clock
    ) -> None:
        self._eraser = eraser
        self._findings = findings
        self._outage = outage
        self._clock = clock

    def evaluate(
        self, pending: PendingDecision, history: GrantHistory, shown: set[Partition]
    ) -> Evaluation:
        """Evaluate a decision; `shown` are the partitions that a leader showed up to their end."""
        record = pending.record
        lane, account = lane_of(record.at.topic), account_of(record)
        if account is None:
            return Evaluation(pending, [])
        entries = self._eraser.ledger_partition(lane, account)
        if entries not in shown:
            self._outage.report(Unavailable(f"{entries}: no answer"))
            return Evaluation(pending._replace(entry_due=None), None)
        grants = ended_grants(history, record, lane, account)
        if grants is None:
            due = pending.entry_due or Deadline(LEDGER_LAG_S, self._clock)
            pending = pending._replace(entry_due=due)
            if not due.has_passed:
                return Evaluation(pending, None)
            pending = self._report(pending)
            grants = ended_in_doubt(history, record, lane, account)
        return Evaluation(pending, [EndedGrant(lane, account, grant) for grant in grants])

    def _report(self, pending: PendingDecision) -> PendingDecision:
        if not pending.is_reported:
            at, offset = pending.record.at, pending.record.offset
            self._findings.report(FindingKind.CONSENT_NOT_IN_LEDGER, at, offset)
        return pending._replace(is_reported=True)


class OffsetTracker:
    """Tracks up to which offset each partition is done: the first decision that is pending."""

    def __init__(self) -> None:
        self._read_to: dict[Partition, int] = {}

    def advance(
        self, read: Iterable[Record], pending: Iterable[PendingDecision]
    ) -> Mapping[Partition, int]:
        """Return the offsets to commit, given the records read so far and those still pending."""
        for record in read:
            read_to = self._read_to.get(record.at, 0)
            self._read_to[record.at] = max(record.offset + 1, read_to)
        first: dict[Partition, int] = {}
        for record in (each.record for each in pending):
            first[record.at] = min(record.offset, first.get(record.at, record.offset))
        done = {at: first.get(at, read_to) for at, read_to in self._read_to.items()}
        self._read_to = {at: self._read_to[at] for at in first}
        return done
