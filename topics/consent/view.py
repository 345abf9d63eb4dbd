"""View of the owners' consent decisions.  Only granted accounts need memory.

Rules:

* No decision on record, or an unreadable one, is a refusal.
* The lane of a decision is that of its topic; its account is the record's key.
* A record in a partition to which its account does not belong makes the account a refusal for the
  life of the view, and is reported: its writer uses another partitioner, and the order of this
  account's decisions is lost.  In a lane with more than 10,000 such accounts all accounts are
  refusals, so that memory is bounded.
* Findings are reported once per kind and key, for up to 10,000 keys per lane: the report is
  permanent, and a writer of nonsense must not fill it.
* The last record of an account decides alone, so that compaction changes no answer.  A grant that
  was appended too late to count (`ConsentDecision.is_void`) is a refusal.
* A grant by an operator is a refusal, and reported, unless the installation is marked as a
  development stack (`installation.py`).
* A grant that an operator's revocation ends (`revocations.py`) is a refusal.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from erasestream.schemas.codec.consent_decision import ParsedDecision, read_decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import HEARTBEAT_KEY, Decision
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, is_account
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.topic_names import consent_of, lane_of, revocations_of
from erasestream.topics.consent.grant_table import GrantTable
from erasestream.topics.consent.installation import LOAD_DEADLINE_S, MARKS, InstallationMark
from erasestream.topics.consent.revocations import Revocations
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, Mark, load
from erasestream.topics.kafka.partitioner import murmur2_all, partition_of, partition_of_hash
from erasestream.topics.kafka.records import Partition, Record

MAX_MISPLACED = 10_000
"""Accounts per lane that are remembered for a decision in a wrong partition."""

MAX_REPORTED = 10_000
"""Findings per lane that are reported."""


class ActiveGrant(NamedTuple):
    """Active grant of an account: its id, and when the broker appended it."""

    grant: GrantId
    appended_at: datetime


ReportFinding = Callable[[FindingKind, Partition, int], None]
"""Callback for a finding about the record at this position."""


def ignore_finding(_kind: FindingKind, _at: Partition, _offset: int) -> None:
    """Ignore a finding; for views besides the routers', which report the same."""


class ConsentState:
    """Active grants of some lanes.  Pure: the state behind the view."""

    def __init__(
        self,
        *,
        partitions: Mapping[str, int],
        report: ReportFinding = ignore_finding,
        has_operator_grants: bool = False,
    ) -> None:
        self._has_operator_grants = has_operator_grants
        self._lanes = {topic: _LaneState(partitions=n) for topic, n in partitions.items()}
        self._report_finding = report

    def apply_all(self, records: Sequence[Record]) -> None:
        """Apply records of consent topics, or of their lanes' revocations, in their order."""
        hashes = murmur2_all([record.key or b"" for record in records])
        for record, key_hash in zip(records, hashes, strict=True):
            self._apply(record, key_hash)

    def apply(self, record: Record) -> None:
        """Apply one record."""
        self.apply_all([record])

    def _apply(self, record: Record, key_hash: int) -> None:
        topic, number = record.at
        lane, key = self._lanes.get(topic), record.key or b""
        if lane is None:
            self._lanes[consent_of(lane_of(topic))].revocations.apply(record)
            return
        if key == HEARTBEAT_KEY or lane.has_lost_order:
            return
        if partition_of_hash(key_hash, lane.partitions) != number:
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
        if decided.is_operators_grant and not self._has_operator_grants:
            lane.granted.drop(key)
            self._report(FindingKind.CONSENT_BY_OPERATOR, record)
            return
        lane.decide(key, decided, record.appended_ms)

    def _report(self, kind: FindingKind, record: Record) -> None:
        if self._lanes[record.at.topic].is_first(kind, record.key or b""):
            self._report_finding(kind, record.at, record.offset)

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        """Return the active grant of this account; None is a refusal."""
        state = self._lanes.get(consent_of(lane))
        granted = state.granted.get(account.encode()) if state else None
        if state is None or granted is None:
            return None
        appended_at = utc(granted.appended_ms)
        if state.revocations.end(account, appended_at):
            return None
        return ActiveGrant(grant_id(lane, account, granted.decision_id), appended_at)

    def forget(self, lane: Lane) -> None:
        """Forget all decisions of a lane; its findings stay reported."""
        topic = consent_of(lane)
        self._lanes[topic] = self._lanes[topic].emptied()

    def __len__(self) -> int:
        """Return the number of granted accounts."""
        return sum(len(state.granted) for state in self._lanes.values())


class _LaneState:
    """Grants and misplaced accounts of one lane."""

    def __init__(self, *, partitions: int) -> None:
        self.partitions = partitions
        self.granted = GrantTable()
        self.revocations = Revocations()
        self.has_lost_order = False
        self._misplaced: set[bytes] = set()
        self._reported: set[bytes] = set()

    def emptied(self) -> "_LaneState":
        """Return the state of the lane without decisions."""
        state = _LaneState(partitions=self.partitions)
        state._reported = self._reported
        return state

    def is_first(self, kind: FindingKind, key: bytes) -> bool:
        """Return whether this finding is new and within the limit of the lane."""
        # A key can be as large as a record, so that only its digest is remembered.
        digest = hashlib.blake2b(f"{kind}:".encode() + key, digest_size=16).digest()
        if digest in self._reported or len(self._reported) >= MAX_REPORTED:
            return False
        self._reported.add(digest)
        return True

    def decide(self, key: bytes, decided: ParsedDecision, appended_ms: int) -> None:
        """Apply a readable decision."""
        revoked = decided.decision is Decision.REVOKED
        if revoked or decided.is_void(appended_ms) or key in self._misplaced:
            self.granted.drop(key)
        else:
            self.granted.put(key, decision_id=decided.id, appended_ms=appended_ms)

    def misplace(self, key: bytes) -> None:
        """Refuse an account whose decisions have lost their order."""
        self.granted.drop(key)
        if not is_account(key.decode(errors="replace")):
            return  # no lookup ever uses this key
        self._misplaced.add(key)
        if len(self._misplaced) > MAX_MISPLACED:
            self.has_lost_order = True
            self._misplaced.clear()
            self.granted.clear()


class ConsentView:
    """Active grants of some lanes as of a freshness mark, read from the brokers.

    The mark covers the operators' revocations, too.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        catalog: Catalog,
        lanes: tuple[Lane, ...],
        report: ReportFinding = ignore_finding,
    ) -> None:
        partitions = {consent_of(lane): catalog[consent_of(lane)].partitions for lane in lanes}
        self._partitions = partitions
        self._of = {
            lane: [
                Partition(topic, number)
                for topic in (consent_of(lane), revocations_of(lane))
                for number in range(catalog[topic].partitions)
            ]
            for lane in lanes
        }
        mark = InstallationMark()
        self._view = CompactedView(connection=connection, topics={MARKS.topic: 1}, apply=mark.apply)
        try:
            self._view.catch_up(self._view.mark(), deadline_s=LOAD_DEADLINE_S)
            self._state = ConsentState(
                partitions=partitions, report=report, has_operator_grants=mark.has_operator_grants
            )
            self._ends = self._view.grouped_ends(self._of)
            self._view.assign(chain(*self._of.values()), self._state.apply_all)
        except BaseException:
            self._view.close()
            raise

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """Return the current end of the topics.  Raises `Unavailable` after the timeout."""
        return self._view.mark(timeout_s=timeout_s)

    @property
    def lanes(self) -> frozenset[Lane]:
        """The lanes whose decisions the view reads."""
        return frozenset(self._of)

    def marks(self, lanes: Collection[Lane], *, timeout_s: float) -> dict[Lane, Mark]:
        """Return the current ends of the decisions and revocations of these lanes.

        Lanes whose leaders do not answer in time are left out.
        """
        return dict(self._ends.ask(lanes, timeout_s=timeout_s))

    def read(self) -> None:
        """Apply fetched records without waiting."""
        self._view.advance()

    def applied(self, lane: Lane) -> Mark:
        """Return the applied offsets of a lane's decisions."""
        return {at: self._view.applied[at] for at in self._of[lane]}

    def reread(self, lane: Lane) -> None:
        """Forget a lane's decisions, and read them again from the beginning."""
        self._state.forget(lane)
        self._view.reread(self._of[lane])

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Apply everything below the mark.  Raises `Unavailable` after the deadline."""
        self._view.catch_up(mark, deadline_s=deadline_s)

    def load(self, *, silence_s: float) -> None:
        """Apply everything that is acknowledged by now, where the leaders answer.

        However long it takes, but no longer than `silence_s` without progress.
        """
        load(self._view, chain(*self._of.values()), silence_s=silence_s)

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        """Return the active grant of this account as of the applied records; None is a refusal."""
        return self._state.active_grant(lane, account)

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        """Return the applied offset of the account's partition, as `<partition>/<offset>`."""
        topic = consent_of(lane)
        number = partition_of(account.encode(), self._partitions[topic])
        return f"{number}/{self._view.applied[Partition(topic, number)]}"

    def __len__(self) -> int:
        """Return the number of granted accounts."""
        return len(self._state)

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
