"""The eraser's first step: a revocation becomes a marker in the vault.

For every decision, in this order:

1. Catch up with the ledger: every decision stands there before it counts.  Where its entry is
   missing, the ledger is not up to date (a leader that was deposed and does not know it yet
   shows the one of before), and the decision waits for a later look.
2. Create the marker `erased/<grant>` of each grant that the decision leaves without force and
   that is not erased yet; once it stands, no key of that grant is used any more.
3. Write the erasure to the ledger, for the record, and then to `erasures`, where nobody else
   can write.  The revocation is *confirmed* with that (`erasing.py`).
4. Commit the offset.  A crash before that repeats the steps, which changes nothing.

The decision itself is taken from `consent.L`, whose topic proves the lane; the ledger, which
all lanes write, only tells which grants there were: names of grants can not be forged
(`ids.grant_id`), and what it says of erasures is not believed.

What can not be done because a partition or the vault is away waits for a later look, with all
that lies behind it in its own partition of `consent.L`; the rest goes on.

A decision whose entry never comes, or that can not be read, was not written by our writer.  In
doubt it ends everything that the account had until then.

Beside that it writes the heartbeats of the consent topics
(`topics/consent/compaction_heartbeat.py`).
"""

import logging
import threading
import time
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

from erasestream.pipeline.stages.erasure.grant_eraser import Ended, GrantEraser, Trouble
from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent, Unavailable
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import (
    HEARTBEAT_KEY,
    MAX_CLOCK_SKEW,
    ConsentDecision,
    Decision,
)
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.topics.catalog.topic_names import LEDGER, lane_of
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.records import Partition, Record

log = logging.getLogger(__name__)

BATCH = 100
CATCH_UP_S = 5.0
BEAT_AGAIN_S = 60.0
"""How soon a heartbeat is tried again that did not come through."""
LEDGER_LAG_S = 60.0
"""How long a decision waits for its entry: much longer than a deposed leader goes unnoticed."""
MAX_WAITING = 10_000
"""Decisions that wait; beyond that nothing more is read, in no lane."""
RETRY_S = 1.0
"""How soon what failed is tried again."""


class Waiting(NamedTuple):
    """A decision that is not done."""

    record: Record
    until_s: float | None = None
    """Until when it waits for its entry, which the ledger was shown not to have; else None."""
    is_reported: bool = False
    """Whether it is in the findings that its entry never came."""


class EraserStage:
    """Erases what is revoked.

    A decision that waits holds up nobody else's; only its offset, and those behind it, are
    committed later.
    """

    def __init__(
        self,
        *,
        queue: WorkQueue,
        ledger: LedgerView,
        erasing: GrantEraser,
        findings: LedgerFindings,
        trouble: Trouble,
        beat: Callable[[], None],
        beat_every_s: float,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._erasing = erasing
        self._findings = findings
        self._trouble = trouble
        self._beat = beat
        self._beat_every_s = beat_every_s
        self._beat_due_s = clock()
        self._clock = clock
        self._stopping = stopping
        self.waiting: list[Waiting] = []
        """What was read and is not done."""
        self._reached: dict[Partition, int] = {}

    def run_once(self, timeout_s: float = 0.2) -> None:
        """One batch of decisions, and another look at those that wait."""
        self._beat_if_due()
        self._findings.write_one()
        work = [*self.waiting, *self._read(timeout_s)]
        if not work:
            return
        self._trouble.begin_turn()
        shown = self._ledger.catch_up(deadline_s=CATCH_UP_S)
        looked = [self._look(each, shown) for each in work]
        ended = chain.from_iterable(ended or () for _, ended in looked)
        erased = self._erasing.erase(ended, grants=self._ledger.grants, shown=shown)
        self.waiting = [each for each, ended in looked if ended is None or not erased >= set(ended)]
        self._commit([each.record for each in work])
        if self._trouble.is_there:
            self._stopping.wait(RETRY_S)

    def _beat_if_due(self) -> None:
        """A consent partition that is away must not keep the others' decisions waiting."""
        if self._clock() < self._beat_due_s:
            return
        try:
            self._beat()
        except Unavailable as error:
            log.warning("beat_missed", extra={"code": error.code, "reason": error.detail})
            self._beat_due_s = self._clock() + min(BEAT_AGAIN_S, self._beat_every_s)
        else:
            self._beat_due_s = self._clock() + self._beat_every_s

    def _read(self, timeout_s: float) -> list[Waiting]:
        if len(self.waiting) >= MAX_WAITING:
            self._stopping.wait(timeout_s)
            return []
        return [Waiting(record) for record in self._queue.read(timeout_s=timeout_s, most=BATCH)]

    def _commit(self, records: list[Record]) -> None:
        """Up to the first decision of each partition that still waits."""
        waiting: dict[Partition, int] = {}
        for record in (each.record for each in self.waiting):
            waiting[record.at] = min(record.offset, waiting.get(record.at, record.offset))
        for record in records:
            behind = max(record.offset + 1, self._reached.get(record.at, 0))
            self._reached[record.at] = behind
        self._queue.done_below({at: waiting.get(at, end) for at, end in self._reached.items()})
        self._reached = {at: self._reached[at] for at in waiting}

    @property
    def count(self) -> int:
        """How many grants were erased."""
        return self._erasing.count

    def is_ready(self) -> bool:
        """Whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Do nothing: decisions that are not committed are redelivered."""

    def _look(self, waiting: Waiting, shown: set[Partition]) -> tuple[Waiting, list[Ended] | None]:
        """What a decision ends; None if that can not be said yet.

        `shown`: the partitions of which a leader said how far they reach.  As long as nobody
        says so of the ledger's, no entry is missing.
        """
        record = waiting.record
        lane, account = lane_of(record.at.topic), _account(record)
        if account is None:
            return waiting, []
        place = self._erasing.place(LEDGER, lane, account)
        if place not in shown:
            self._trouble.say(Unavailable(f"{place}: no answer"))
            return waiting._replace(until_s=None), None
        ended = self._ended(record, lane, account)
        if ended is None:
            until_s = waiting.until_s or self._clock() + LEDGER_LAG_S
            waiting = waiting._replace(until_s=until_s)
            if self._clock() < until_s:
                return waiting, None
            if not waiting.is_reported:
                self._findings.report(FindingKind.CONSENT_NOT_IN_LEDGER, record.at, record.offset)
            waiting = waiting._replace(is_reported=True)
            ended = self._ended_in_doubt(record, lane, account)
        return waiting, [Ended(lane, account, grant) for grant in ended]

    def _ended(self, record: Record, lane: Lane, account: AccountId) -> list[GrantId] | None:
        """The grants that a record ends; None if the ledger does not have its decision."""
        grants, decision = self._ledger.grants, _decision(record)
        if decision is None:
            return self._ended_in_doubt(record, lane, account)
        if not grants.has(lane, account, decision.id):
            return None
        if _opts_in(decision, record):
            return grants.ended_by_grant(lane, account, decision.id)
        return grants.ended_by_revocation(lane, account, decision.id)

    def _ended_in_doubt(self, record: Record, lane: Lane, account: AccountId) -> list[GrantId]:
        """All that the account had when the record was appended, by two brokers' clocks.

        And what the record itself grants: later revocations would not find that in the ledger.
        """
        until_ms = record.appended_ms + int(MAX_CLOCK_SKEW.total_seconds() * 1000)
        ended = self._ledger.grants.appended_until(lane, account, until_ms)
        decision = _decision(record)
        return [*ended, decision.grant(lane)] if decision and _opts_in(decision, record) else ended


def _account(record: Record) -> AccountId | None:
    """The account that a record decides for, readable or not; None for a heartbeat."""
    key = record.key or b""
    return None if key == HEARTBEAT_KEY else AccountId(key.decode(errors="replace"))


def _decision(record: Record) -> ConsentDecision | None:
    """What a record says of the account that is its key; None if that can not be read."""
    try:
        decision = from_wire(ConsentDecision, record.headers, record.value)
    except InvalidEvent:
        return None
    return decision if decision.account.encode() == record.key else None


def _opts_in(decision: ConsentDecision, record: Record) -> bool:
    """Whether this is a grant that counts."""
    is_void = decision.is_void(utc(record.appended_ms))
    return decision.decision is Decision.GRANTED and not is_void
