"""What is known of the owners' decisions: only accounts that are granted are kept.

The default, not opted in, needs no memory.  Rules, all of them:

* No decision on record, or one that can not be read, is a refusal.
* The lane of a decision is that of the topic it lies in; its account is the record's key.
* A record in a partition where its account does not belong makes the account a refusal,
  for as long as this view lives, and is reported: somebody writes with another partitioner,
  and the order of this account's decisions is lost.  A lane with more than 10,000 such
  accounts has lost it altogether: all its accounts are refusals, so that memory is bounded.
* What is wrong is reported once per kind and key, of up to 10,000 keys per lane: the report is
  kept for ever, and whoever writes nonsense must not fill it.
* The last record of an account decides alone, so that compaction changes no answer.  A
  grant that the broker appended too late to count (`ConsentDecision.is_void`) is a refusal.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from erasestream.schemas.codec.consent_decision import ParsedDecision, read_decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import HEARTBEAT_KEY, Decision
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, is_account
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.consent.grant_table import GrantTable
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, Mark
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.records import Partition, Record

MAX_MISPLACED = 10_000
"""Accounts per lane with a decision in a wrong partition that are told apart."""

MAX_REPORTED = 10_000
"""Findings per lane that are reported one by one."""


class ActiveGrant(NamedTuple):
    """A grant in force: its id, and when the broker appended it."""

    grant: GrantId
    appended_at: datetime


ReportFinding = Callable[[FindingKind, Partition, int], None]
"""Told of what is wrong, and where it lies."""


def ignore_finding(_kind: FindingKind, _at: Partition, _offset: int) -> None:
    """For whoever reads beside the routers: they find the same, and write it down."""


class Decisions:
    """The state behind the view; pure, so that its rules can be tested without a broker."""

    def __init__(
        self, *, partitions: Mapping[str, int], report: ReportFinding = ignore_finding
    ) -> None:
        self._lanes = {topic: _LaneState(partitions=n) for topic, n in partitions.items()}
        self._report_finding = report

    def apply(self, record: Record) -> None:
        """Take one record of a consent topic into account."""
        lane, key = self._lanes[record.at.topic], record.key or b""
        if key == HEARTBEAT_KEY or lane.is_lost:
            return
        if partition_of(key, lane.partitions) != record.at.number:
            lane.misplace(key)
            self._report(FindingKind.CONSENT_IN_WRONG_PARTITION, record)
            return
        try:
            decided = read_decision(record.headers, record.value)
        except InvalidEvent:
            decided = None
        if decided is None or decided.account != key:
            lane.granted.drop(key)
            self._report(FindingKind.CONSENT_UNREADABLE, record)
            return
        lane.decide(key, decided, record.appended_ms)

    def _report(self, kind: FindingKind, record: Record) -> None:
        if self._lanes[record.at.topic].is_first(kind, record.key or b""):
            self._report_finding(kind, record.at, record.offset)

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        """The grant in force of this account; None is a refusal."""
        state = self._lanes.get(consent_of(lane))
        granted = state.granted.get(account.encode()) if state else None
        if granted is None:
            return None
        return ActiveGrant(grant_id(lane, account, granted.decision_id), utc(granted.appended_ms))

    def __len__(self) -> int:
        """How many accounts are granted."""
        return sum(len(state.granted) for state in self._lanes.values())


class _LaneState:
    """What is known of the accounts of one lane."""

    def __init__(self, *, partitions: int) -> None:
        self.partitions = partitions
        self.granted = GrantTable()
        self.is_lost = False
        self._misplaced: set[bytes] = set()
        self._reported: set[bytes] = set()

    def is_first(self, kind: FindingKind, key: bytes) -> bool:
        """Whether this is to be reported, and not for the second time."""
        # A key can be as large as a record: what is remembered of it is short.
        name = hashlib.blake2b(f"{kind}:".encode() + key, digest_size=16).digest()
        if name in self._reported or len(self._reported) >= MAX_REPORTED:
            return False
        self._reported.add(name)
        return True

    def decide(self, key: bytes, decided: ParsedDecision, appended_ms: int) -> None:
        revoked = decided.decision is Decision.REVOKED
        if revoked or decided.is_void(utc(appended_ms)) or key in self._misplaced:
            self.granted.drop(key)
        else:
            self.granted.put(key, decision_id=decided.id, appended_ms=appended_ms)

    def misplace(self, key: bytes) -> None:
        self.granted.drop(key)
        if not is_account(key.decode(errors="replace")):
            return  # nobody is called this, so nobody is ever asked for
        self._misplaced.add(key)
        if len(self._misplaced) > MAX_MISPLACED:
            self.is_lost = True
            self._misplaced.clear()
            self.granted.clear()


class ConsentView:
    """The decisions of some lanes, and how fresh they are."""

    def __init__(
        self,
        *,
        connection: Connection,
        catalog: Catalog,
        lanes: tuple[Lane, ...],
        report: ReportFinding = ignore_finding,
    ) -> None:
        partitions = {consent_of(lane): catalog[consent_of(lane)].partitions for lane in lanes}
        self._decisions = Decisions(partitions=partitions, report=report)
        self._view = CompactedView(
            connection=connection, topics=partitions, apply=self._decisions.apply
        )
        self._partitions = partitions

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """How far the decisions reach now.  Raises `Unavailable`, after the timeout if given."""
        return self._view.mark(timeout_s=timeout_s)

    def read(self) -> Mark:
        """Apply what is there, without waiting; what is applied then."""
        self._view.read(0)
        return self._view.applied

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply everything below the mark.  Raises `Unavailable` after the deadline."""
        self._view.catch_up(mark, deadline_s=deadline_s)

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        """The grant in force of this account, as far as is applied; None is a refusal."""
        return self._decisions.active_grant(lane, account)

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        """How much of the account's partition is applied: `<partition>/<offset>`."""
        topic = consent_of(lane)
        number = partition_of(account.encode(), self._partitions[topic])
        return f"{number}/{self._view.applied[Partition(topic, number)]}"

    def __len__(self) -> int:
        """How many accounts are granted."""
        return len(self._decisions)

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
