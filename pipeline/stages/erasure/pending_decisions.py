"""Evaluate decisions that are read and not done, and track which offsets may be committed.

* The entry of an operator's revocation is written here (`operator_entries.py`), without a wait.
* While no leader shows the account's partition of the ledger, nothing is known: the decision
  waits, however long.
* Where a leader shows the ledger without the decision's entry, the ledger may be out of date (a
  deposed leader that does not know it yet shows the state before the change): the decision
  waits `LEDGER_LAG_S` for its entry.
* After that it is reported, once, and waits until its report proves that there is no entry
  (`missing_entries.py`), however long; `ended_grants.py` lists what it ends then.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import (
    Cause,
    Content,
    DecisionRecord,
    EndedGrant,
    cause,
    ended_grants,
)
from erasestream.pipeline.stages.erasure.missing_entries import MissingEntries, Report
from erasestream.pipeline.stages.erasure.operator_entries import OperatorEntry
from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.records import Partition, Record

LEDGER_LAG_S = 60.0
"""Wait of a decision for its entry: much longer than a deposed leader goes unnoticed."""
GRANTS_PER_TURN = 32
"""Grants of one lane that are erased in one turn."""


class PendingDecision(NamedTuple):
    """A decision that is read and not done."""

    at: Partition
    offset: int
    decision: DecisionRecord
    entry_due: Deadline | None = None
    """When its entry counts as missing; None unless the ledger was shown without it."""
    report: Report | None = None
    """The report of the missing entry."""

    @classmethod
    def of(cls, record: Record) -> "PendingDecision | None":
        """Return the decision of a record; None if it is of no account."""
        decision = DecisionRecord.of(record)
        return None if decision is None else cls(record.at, record.offset, decision)


class Evaluation(NamedTuple):
    """A decision and the first grants that it ends, with their cause; None if they are unknown.

    It is done once they are erased, unless they are more than `GRANTS_PER_TURN`.
    """

    pending: PendingDecision
    ended: dict[EndedGrant, Cause] | None


class DecisionEvaluator:
    """Determines what pending decisions end."""

    def __init__(
        self, *, history: GrantHistory, missing: MissingEntries, outage: OutageLog, clock: Clock
    ) -> None:
        self._history = history
        self._missing = missing
        self._outage = outage
        self._clock = clock

    def evaluate(
        self, pending: PendingDecision, entries: Partition, shown: set[Partition]
    ) -> Evaluation:
        """Evaluate a decision.

        `entries` is its account's partition of the ledger; `shown` are the partitions that a
        leader showed up to their end.
        """
        if entries not in shown:
            self._outage.report(Unavailable(f"{entries}: no answer"))
            return Evaluation(pending._replace(entry_due=None), None)
        report = pending.report
        is_unlisted = report is not None and self._missing.is_proven(entries, report)
        ended = ended_grants(
            self._history, pending.decision, most=GRANTS_PER_TURN + 1, is_unlisted=is_unlisted
        )
        if ended is None:
            return Evaluation(self._await_entry(pending, entries), None)
        return Evaluation(pending, dict.fromkeys(ended, cause(self._history, pending.decision)))

    def _await_entry(self, pending: PendingDecision, entries: Partition) -> PendingDecision:
        if pending.decision.content is Content.REVOCATION_BY_OPERATOR:
            return self._enter(pending, entries)
        due = pending.entry_due or Deadline(LEDGER_LAG_S, self._clock)
        report = pending.report
        if report is None and due.has_passed:
            report = self._missing.report(entries, pending.at, pending.offset)
        return pending._replace(entry_due=due, report=report)

    def _enter(self, pending: PendingDecision, entries: Partition) -> PendingDecision:
        """Write the entry of an operator's revocation, once."""
        if pending.report is not None:
            return pending
        entry = OperatorEntry(pending.at, pending.offset, decision=pending.decision)
        self._missing.enter(entries, entry)
        return pending._replace(report=entry)


def share_of_each_lane(evaluated: Iterable[Evaluation]) -> dict[EndedGrant, Cause]:
    """Return the grants to erase in this turn, and why: up to `GRANTS_PER_TURN` of each lane."""
    shares: dict[Lane, dict[EndedGrant, Cause]] = {}
    for evaluation in evaluated:
        share = shares.setdefault(evaluation.pending.decision.lane, {})
        for each, why in (evaluation.ended or {}).items():
            if len(share) < GRANTS_PER_TURN:
                share.setdefault(each, why)
    return {each: why for share in shares.values() for each, why in share.items()}


class Pending(Protocol):
    """A record that is read and not done."""

    @property
    def at(self) -> Partition:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its offset."""


class OffsetTracker:
    """Tracks up to which offset each partition is done: the first record that is pending."""

    def __init__(self) -> None:
        self._read_to: dict[Partition, int] = {}

    def advance(
        self, read: Iterable[Record], pending: Iterable[Pending]
    ) -> Mapping[Partition, int]:
        """Return the offsets to commit, given what was just read and what is pending."""
        for record in read:
            read_to = self._read_to.get(record.at, 0)
            self._read_to[record.at] = max(record.offset + 1, read_to)
        first: dict[Partition, int] = {}
        for each in pending:
            first[each.at] = min(each.offset, first.get(each.at, each.offset))
        done = {at: first.get(at, read_to) for at, read_to in self._read_to.items()}
        self._read_to = {at: self._read_to[at] for at in first if at in self._read_to}
        return done
