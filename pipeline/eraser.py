"""The eraser's first step: a revocation becomes a marker in the vault.

For every decision, in this order:

1. Catch up with the ledger: every decision stands there before it counts.  Where its entry is
   missing, the ledger is not up to date (a leader that was deposed and does not know it yet
   shows the one of before), and the decision waits for a later look.
2. Create the marker `erased/<grant>` of each grant that the decision leaves without force and
   that is not erased yet; once it stands, no key of that grant is used any more.
3. Write the erasure to the ledger, for the record, and then to `erasures`, where nobody else
   can write.  The revocation is *confirmed* with that.
4. Commit the offset.  A crash before that repeats the steps, which changes nothing.

The decision itself is taken from `consent.L`, whose topic proves the lane; the ledger, which
all lanes write, only tells which grants there were: names of grants can not be forged
(`ids.grant_id`), and what it says of erasures is not believed.

What can not be done because a partition or the vault is away waits for a later look, with all
that lies behind it in its own partition of `consent.L`; the rest goes on.

A decision whose entry never comes, or that can not be read, was not written by our writer.  In
doubt it ends everything that the account had until then.

Beside that it writes the heartbeats of the consent topics (`topics/heartbeat.py`).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple

from erasestream.pipeline.consent.decision import MAX_CLOCK_SKEW
from erasestream.pipeline.consent.findings import Findings
from erasestream.schemas.cloudevents import Wire, from_wire, to_wire
from erasestream.schemas.consent import HEARTBEAT_KEY, ConsentDecision, Decision
from erasestream.schemas.errors import InvalidEvent, Unavailable
from erasestream.schemas.events import utc
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.schemas.ledger import ErasureEntry, FindingKind
from erasestream.topics.catalog import ERASURES, LEDGER, lane_of
from erasestream.topics.ledger_view import LedgerView, ledger_key
from erasestream.topics.partitioner import partition_of
from erasestream.topics.record import Partition, Record
from erasestream.topics.single_writes import SingleWrites
from erasestream.topics.work import WorkQueue

log = logging.getLogger(__name__)

BATCH = 100
CATCH_UP_S = 5.0
POLL_S = 0.2
BEAT_AGAIN_S = 60.0
"""How soon a heartbeat is tried again that did not come through."""
LEDGER_LAG_S = 60.0
"""How long a decision waits for its entry: much longer than a deposed leader goes unnoticed."""
MAX_WAITING = 10_000
"""Decisions that wait; beyond that nothing more is read, in no lane."""
RETRY_S = 1.0
"""How soon what failed is tried again."""
AT_ONCE = 8
"""Markers that are made at the same time."""


class Waiting(NamedTuple):
    """A decision that is not done."""

    record: Record
    until_s: float | None = None
    """Until when it waits for its entry, which the ledger was shown not to have; else None."""
    is_reported: bool = False
    """Whether it is in the findings that its entry never came."""


class Ended(NamedTuple):
    """A grant without force."""

    lane: Lane
    account: AccountId
    grant: GrantId


class EraserStage:
    """Marks what is revoked; `mark` creates a grant's marker in the vault.

    `partitions`: how many the ledger and `erasures` have.  A decision that waits holds up nobody
    else's; only its offset, and those behind it, are committed later.
    """

    def __init__(
        self,
        *,
        queue: WorkQueue,
        ledger: LedgerView,
        partitions: Mapping[str, int],
        writes: SingleWrites,
        findings: Findings,
        mark: Callable[[GrantId], None],
        beat: Callable[[], None],
        beat_every_s: float,
        stopping: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._partitions = partitions
        self._writes = writes
        self._findings = findings
        self._mark = mark
        self._beat = beat
        self._beat_every_s = beat_every_s
        self._beat_due_s = clock()
        self._now = now
        self._clock = clock
        self._stopping = stopping
        self.waiting: list[Waiting] = []
        """What was read and is not done."""
        self._has_said = self._is_in_trouble = self._is_vault_away = False
        self._in_ledger: set[Ended] = set()
        """What is marked and in the ledger, and not in `erasures` yet."""
        self._reached: dict[Partition, int] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="eraser")
        self.count = 0
        """How many grants were marked."""

    def turn(self) -> None:
        """One batch of decisions, and another look at those that wait."""
        self._beat_if_due()
        self._findings.write_one()
        work = [*self.waiting, *self._read()]
        if not work:
            return
        self._is_in_trouble = self._is_vault_away = False
        shown = self._ledger.catch_up(deadline_s=CATCH_UP_S)
        looked = [self._look(each, shown) for each in work]
        ended = chain.from_iterable(ended or () for _, ended in looked)
        erased = self._erased(list(dict.fromkeys(ended)), shown)
        self.waiting = [each for each, ended in looked if ended is None or not erased >= set(ended)]
        self._commit([each.record for each in work])
        self._has_said = self._has_said and bool(self.waiting)
        if self._is_in_trouble:
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

    def _read(self) -> list[Waiting]:
        if len(self.waiting) >= MAX_WAITING:
            self._stopping.wait(POLL_S)
            return []
        return [Waiting(record) for record in self._queue.read(timeout_s=POLL_S, most=BATCH)]

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

    def is_ready(self) -> bool:
        """Whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Leave the group."""
        self._pool.shutdown()
        self._queue.close()
        self._ledger.close()

    def _look(self, waiting: Waiting, shown: set[Partition]) -> tuple[Waiting, list[Ended] | None]:
        """What a decision ends; None if that can not be said yet.

        `shown`: the partitions of which a leader said how far they reach.  As long as nobody
        says so of the ledger's, no entry is missing.
        """
        record = waiting.record
        lane, account = lane_of(record.at.topic), _account(record)
        if account is None:
            return waiting, []
        place = self._place(LEDGER, lane, account)
        if place not in shown:
            self._say(Unavailable(f"{place}: no answer"))
            return waiting._replace(until_s=None), None
        ended = self._ended(record, lane, account)
        if ended is None:
            until_s = waiting.until_s or self._clock() + LEDGER_LAG_S
            waiting = waiting._replace(until_s=until_s)
            if self._clock() < until_s:
                return waiting, None
            if not waiting.is_reported:
                self._findings.found(FindingKind.CONSENT_NOT_IN_LEDGER, record.at, record.offset)
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
        ended = self._ledger.grants.ended_in_doubt(lane, account, until_ms)
        decision = _decision(record)
        return [*ended, decision.grant(lane)] if decision and _opts_in(decision, record) else ended

    def _erased(self, asked: list[Ended], shown: set[Partition]) -> set[Ended]:
        """Erase these; which of them are erased now.

        What is marked and in the ledger is neither again, however long `erasures` is away.
        """
        erased = {each for each in asked if self._ledger.grants.is_erased(each.grant)}
        left = [each for each in asked if each not in erased and self._may_note(each, shown)]
        new = [each for each in left if each not in self._in_ledger]
        marked = list(self._pool.map(self._is_marked, new))
        new = [each for each, is_marked in zip(new, marked, strict=True) if is_marked]
        self._in_ledger.update(self._noted(LEDGER, new))
        noted = self._noted(ERASURES, [each for each in left if each in self._in_ledger])
        self._in_ledger.difference_update(noted)
        self.count += len(noted)
        return erased.union(noted)

    def _may_note(self, ended: Ended, shown: set[Partition]) -> bool:
        place = self._place(ERASURES, ended.lane, ended.account)
        if place not in shown:
            self._say(Unavailable(f"{place}: no answer"))
        return place in shown

    def _is_marked(self, ended: Ended) -> bool:
        if self._is_vault_away or self._stopping.is_set():
            return False  # a vault that does not answer is not asked a thousand times
        try:
            self._mark(ended.grant)
        except Unavailable as error:
            self._is_vault_away = True
            self._say(error)
            return False
        return True

    def _noted(self, topic: str, erased: list[Ended]) -> list[Ended]:
        """Say in the topic that these are erased; of which of them it is acknowledged."""
        entries = [self._entry(topic, each) for each in erased]
        try:
            answers = self._writes.write_all(entries)
        except Unavailable as error:
            self._say(error)
            return []
        noted = []
        for each, answer in zip(erased, answers, strict=True):
            try:
                answer.result()
            except Unavailable as error:
                self._say(error)
            else:
                noted.append(each)
        return noted

    def _say(self, error: Unavailable) -> None:
        """Once, until nothing waits any more."""
        self._is_in_trouble = True
        if not self._has_said:
            log.warning("waiting", extra={"code": error.code, "reason": error.detail})
        self._has_said = True

    def _entry(self, topic: str, ended: Ended) -> tuple[Partition, bytes, Wire]:
        lane, account, grant = ended
        now = self._now()
        entry = ErasureEntry(
            id=new_upload_id(int(now.timestamp() * 1000), os.urandom(10)),
            time=now,
            lane=lane,
            account=account,
            grant=grant,
        )
        key = ledger_key(lane, account)
        return self._place(topic, lane, account), key, to_wire(entry, source="/eraser")

    def _place(self, topic: str, lane: Lane, account: AccountId) -> Partition:
        return Partition(topic, partition_of(ledger_key(lane, account), self._partitions[topic]))


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
