"""What is known of the owners' decisions: only accounts that are granted are kept.

The default, not opted in, needs no memory.  Rules, all of them:

* No decision on record, or one that can not be read, is a refusal.
* The lane of a decision is that of the topic it lies in; its account is the record's key.
* A record in a partition where its account does not belong makes the account a refusal,
  for as long as this view lives, and is reported: somebody writes with another partitioner,
  and the order of this account's decisions is lost.  A lane with more than 10,000 such
  accounts has lost it altogether: all its accounts are refusals, so that memory is bounded.
* The last record of an account decides alone, so that compaction changes no answer.  A
  grant that the broker appended too late to count (`ConsentDecision.is_void`) is a refusal.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from erasestream.schemas.cloudevents import from_wire
from erasestream.schemas.consent import HEARTBEAT_KEY, ConsentDecision, Decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events import utc
from erasestream.schemas.ids import AccountId, GrantId, Lane, is_account
from erasestream.schemas.ledger import FindingKind
from erasestream.topics.catalog import Catalog, consent_of, lane_of
from erasestream.topics.compacted import CompactedView, Mark
from erasestream.topics.connection import Connection
from erasestream.topics.partitioner import partition_of
from erasestream.topics.record import Partition, Record

MAX_MISPLACED = 10_000
"""Accounts per lane with a decision in a wrong partition that are told apart."""


class Standing(NamedTuple):
    """A grant in force: its id, and when the broker appended it."""

    grant: GrantId
    appended_at: datetime


class Decisions:
    """The state behind the view; pure, so that its rules can be tested without a broker."""

    def __init__(
        self, *, partitions: Mapping[str, int], found: Callable[[FindingKind, Partition, int], None]
    ) -> None:
        self._partitions = partitions
        self._found = found
        self._granted: dict[tuple[Lane, bytes], Standing] = {}
        self._misplaced: dict[Lane, set[bytes]] = defaultdict(set)
        self._lost: set[Lane] = set()

    def apply(self, record: Record) -> None:
        """Take one record of a consent topic into account."""
        lane = lane_of(record.at.topic)
        key = record.key or b""
        if key == HEARTBEAT_KEY or lane in self._lost:
            return
        if partition_of(key, self._partitions[record.at.topic]) != record.at.number:
            self._misplace(lane, key)
            self._found(FindingKind.CONSENT_IN_WRONG_PARTITION, record.at, record.offset)
            return
        try:
            decision = from_wire(ConsentDecision, record.headers, record.value)
        except InvalidEvent:
            decision = None
        if decision is None or decision.account.encode() != key:
            self._granted.pop((lane, key), None)
            self._found(FindingKind.CONSENT_UNREADABLE, record.at, record.offset)
            return
        self._decide(lane, key, decision, utc(record.appended_ms))

    def _decide(
        self, lane: Lane, key: bytes, decision: ConsentDecision, appended_at: datetime
    ) -> None:
        void = decision.is_void(appended_at)
        if decision.decision is Decision.REVOKED or void or key in self._misplaced[lane]:
            self._granted.pop((lane, key), None)
        else:
            self._granted[lane, key] = Standing(decision.grant(lane), appended_at)

    def _misplace(self, lane: Lane, key: bytes) -> None:
        self._granted.pop((lane, key), None)
        if not is_account(key.decode(errors="replace")):
            return  # nobody is called this, so nobody is ever asked for
        self._misplaced[lane].add(key)
        if len(self._misplaced[lane]) > MAX_MISPLACED:
            self._lost.add(lane)
            del self._misplaced[lane]
            self._granted = {of: each for of, each in self._granted.items() if of[0] != lane}

    def standing(self, lane: Lane, account: AccountId) -> Standing | None:
        """The grant in force of this account; None is a refusal."""
        return self._granted.get((lane, account.encode()))

    def __len__(self) -> int:
        """How many accounts are granted."""
        return len(self._granted)


class ConsentView:
    """The decisions of some lanes, and how fresh they are."""

    def __init__(
        self,
        *,
        connection: Connection,
        catalog: Catalog,
        lanes: tuple[Lane, ...],
        found: Callable[[FindingKind, Partition, int], None],
    ) -> None:
        partitions = {consent_of(lane): catalog[consent_of(lane)].partitions for lane in lanes}
        self._decisions = Decisions(partitions=partitions, found=found)
        self._view = CompactedView(
            connection=connection, topics=partitions, apply=self._decisions.apply
        )
        self._partitions = partitions

    def mark(self) -> Mark:
        """How far the decisions reach now."""
        return self._view.mark()

    def read(self) -> Mark:
        """Apply what is there, without waiting; what is applied then."""
        self._view.read(0)
        return self._view.applied

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply everything below the mark.  Raises `Unavailable` after the deadline."""
        self._view.catch_up(mark, deadline_s=deadline_s)

    def standing(self, lane: Lane, account: AccountId) -> Standing | None:
        """The grant in force of this account, as far as is applied; None is a refusal."""
        return self._decisions.standing(lane, account)

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        """How much of the account's partition is applied: `<partition>/<offset>`."""
        topic = consent_of(lane)
        number = partition_of(account.encode(), self._partitions[topic])
        return f"{number}/{self._view.applied[Partition(topic, number)]}"

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
