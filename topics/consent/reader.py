"""Reader of consent decisions: active grant, history and unerased grants of an account."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from typing import NamedTuple, TypeVar

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import UNKNOWN_ACTOR, Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, is_account
from erasestream.topics.catalog.topic_names import (
    consent_of,
    erasures_of,
    ledger_of,
    revocations_of,
)
from erasestream.topics.consent.account_records import AccountRecords
from erasestream.topics.consent.closed_accounts import ClosedAccounts
from erasestream.topics.consent.erased_grants import Erasures
from erasestream.topics.consent.installation import MARKS, InstallationMark
from erasestream.topics.consent.ledger_place import Place, place
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.consent.revocations import Revocations, ends_until_ms, revocation_place
from erasestream.topics.consent.view import ActiveGrant, ConsentState
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.cached_partition_state import (
    CachedPartitionState,
    State,
    cached_states,
)
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.consumer.partition_reader import PartitionReader
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.records import Partition, Record

READ_TIMEOUT_S = 15.0

S = TypeVar("S", bound=State)


class HistoryEntry(NamedTuple):
    """One decision in the ledger."""

    at: datetime
    decision: Decision
    actor: str
    channel: Channel
    id: str
    notice: str | None = None
    """The text that the owner agreed to (`NoticeField`)."""


def validated(account: str) -> AccountId:
    """Return the account id, or raise `InvalidEvent` (invalid_account)."""
    if not is_account(account):
        raise InvalidEvent(code=Code.INVALID_ACCOUNT)
    return AccountId(account)


class ConsentReader:
    """Current and past decisions of the accounts of one lane.  Thread-safe.

    Every query reads the account's partition up to its end at that moment: of active grants,
    erasures and closed accounts, about 80 to 100 bytes each, the new records only.
    """

    def __init__(self, *, connection: Connection, lane: Lane) -> None:
        self._lane = lane
        self._mark = InstallationMark()
        with ExitStack() as opened:
            admin = opened.enter_context(Admin(connection))
            names = (consent_of, ledger_of, erasures_of, revocations_of)
            self.partitions = admin.check_rights({name(lane): () for name in names})
            self._queries = OffsetQueries(admin)
            self._reads = opened.enter_context(closing(PartitionReader(connection)))
            self._reads.read(MARKS, self._mark.apply, deadline_s=READ_TIMEOUT_S)
            self._opened = opened.pop_all()
        self._decisions = self._cached(consent_of(lane), self._empty_state)
        self._erasures = self._cached(erasures_of(lane), lambda: Erasures(self.partitions))
        self._closed = self._cached(ledger_of(lane), lambda: ClosedAccounts(self.partitions))
        (self._revocations,) = self._cached(revocations_of(lane), Revocations)

    def close(self) -> None:
        """Disconnect.  Idempotent."""
        self._opened.close()

    def _cached(self, topic: str, make: Callable[[], S]) -> list[CachedPartitionState[S]]:
        count, queries = self.partitions[topic], self._queries
        return cached_states(
            self._reads, topic, count, make=make, queries=queries, deadline_s=READ_TIMEOUT_S
        )

    def _empty_state(self) -> ConsentState:
        topic = consent_of(self._lane)
        return ConsentState(
            partitions={topic: self.partitions[topic]}, has_operator_grants=self.has_operator_grants
        )

    @property
    def has_operator_grants(self) -> bool:
        """Whether grants by operators count: in an installation that is marked as development."""
        return self._mark.has_operator_grants

    def active_grant(self, account: str) -> ActiveGrant | None:
        """Return the active grant; None if the account is not opted in.

        A grant that is erased, or that an operator revoked, is not active, whatever the owner's
        last decision is.
        """
        return self.lookup(validated(account))[0]

    def lookup(self, account: AccountId) -> tuple[ActiveGrant | None, Mark]:
        """Return the active grant, and the offset up to which the partition was read."""
        with self._decisions[self.partition_for(account).number].now() as (decisions, mark):
            active = decisions.active_grant(self._lane, account)
        if active is not None and (
            self._is_erased(account, active.grant)
            or self.is_ended_by_operator(account, active.appended_at)
        ):
            active = None
        return active, mark

    def is_ended_by_operator(self, account: AccountId, appended_at: datetime) -> bool:
        """Return whether an operator's revocation ends a grant that was appended then."""
        with self._revocations.now() as (revocations, _):
            return revocations.end(account, appended_at)

    def is_closed(self, account: AccountId) -> bool:
        """Return whether the owner has closed the account: then no grant counts any more."""
        at, _ = self.place(ledger_of(self._lane), account)
        with self._closed[at.number].now() as (closed, _):
            return account in closed

    def end_mark(self, account: AccountId) -> Mark:
        """Return the end offset of the account's partition, current or slightly older."""
        at = self.partition_for(account)
        return {at: self._queries.log_end(at)}

    def records_between(self, account: AccountId, begin: Mark, offset: int) -> list[Record]:
        """Return the account's records from `begin` up to this acknowledged offset."""
        at = self.partition_for(account)
        if offset == begin[at]:
            return []
        records: list[Record] = []
        self.read(Place(at, account.encode()), apply=records.append, begin=begin, end={at: offset})
        return records

    def partition_for(self, account: AccountId) -> Partition:
        """Return the partition of the account's decisions."""
        topic = consent_of(self._lane)
        return Partition(topic, partition_of(account.encode(), self.partitions[topic]))

    def _is_erased(self, account: AccountId, grant: GrantId) -> bool:
        at, _ = self.place(erasures_of(self._lane), account)
        with self._erasures[at.number].now() as (erasures, _):
            return grant in erasures

    def account_grants(self, account: str) -> "AccountGrants":
        """Return the grants of this account, to be queried repeatedly."""
        return AccountGrants(self, self._lane, validated(account))

    def unerased_grants(self, account: str) -> list[GrantId]:
        """Return the grants of this account whose erasure the eraser has not confirmed."""
        return self.account_grants(account).unerased()

    def history(self, account: str) -> list[HistoryEntry]:
        """Return every decision of this account, oldest first."""
        return sorted(_decisions(self, self._lane, validated(account)), key=lambda each: each.at)

    def place(self, topic: str, account: AccountId) -> Place:
        """Return the place of the account's entries in its lane's ledger, or confirmed erasures."""
        return place(topic, account, self.partitions)

    def read(
        self,
        place: Place,
        *,
        apply: Callable[[Record], None],
        begin: Mark | None = None,
        end: Mark | None = None,
    ) -> Mark:
        """Apply the records in one place, and return the offset read up to."""
        return self._reads.read(
            place.at,
            lambda record: apply(record) if record.key == place.key else None,
            begin=begin,
            end=end,
            deadline_s=READ_TIMEOUT_S,
        )


class AccountGrants:
    """Grants and erasures of one account.  Repeated queries read new records only."""

    def __init__(self, reader: ConsentReader, lane: Lane, account: AccountId) -> None:
        self._lane, self._account = lane, account
        self._grants = GrantHistory(reader.partitions)
        self._sources = [
            AccountRecords(reader, reader.place(topic, account), apply=self._grants.apply)
            for topic in (ledger_of(lane), erasures_of(lane))
        ]

    def unerased(self) -> list[GrantId]:
        """Return the grants whose erasure the eraser has not confirmed."""
        self._catch_up()
        return self._grants.unerased(self._lane, self._account)

    def unerased_before(self, decision_id: str) -> list[GrantId] | None:
        """Return the unerased grants before this decision.

        None if the ledger as read does not have the decision: a deposed leader that does not know
        it yet returns an older ledger.
        """
        self._catch_up()
        return self._grants.unerased_before(self._lane, self._account, decision_id)

    def unerased_by_operator(self, decision_id: str, revoked_at: datetime) -> list[GrantId] | None:
        """Return the unerased grants that an operator's revocation ends.

        None if the ledger as read does not have the eraser's entry of it.
        """
        self._catch_up()
        until_ms = ends_until_ms(revoked_at)
        return self._grants.unerased_by_operator(self._lane, self._account, decision_id, until_ms)

    def _catch_up(self) -> None:
        for each in self._sources:
            each.catch_up()


def _decisions(reader: ConsentReader, lane: Lane, account: AccountId) -> Iterator[HistoryEntry]:
    entries, revocations = list[Record](), list[Record]()
    reader.read(reader.place(ledger_of(lane), account), apply=entries.append)
    reader.read(revocation_place(lane, account), apply=revocations.append)
    yield from _history(entries, lane, account, has_operator_grants=reader.has_operator_grants)
    yield from map(_revocation, revocations)


def _history(
    records: list[Record], lane: Lane, account: AccountId, *, has_operator_grants: bool
) -> Iterator[HistoryEntry]:
    """Return the first entry of each decision; the lane's service can write anything else."""
    seen: set[str] = set()
    for record in records:
        try:
            if type_of(record.headers) is not DecisionEntry:
                continue
            entry = from_wire(DecisionEntry, record.headers, record.value)
        except InvalidEvent:
            continue
        if (entry.lane, entry.account) != (lane, account) or entry.id in seen:
            continue
        seen.add(entry.id)
        is_by_operator = entry.channel is Channel.OPERATOR
        if is_by_operator and not (has_operator_grants and entry.decision is Decision.GRANTED):
            continue  # an operator's revocation is shown from the topic that proves its writer
        yield HistoryEntry(
            utc(record.appended_ms),
            entry.decision,
            entry.actor,
            entry.channel,
            entry.id,
            entry.notice,
        )


def _revocation(record: Record) -> HistoryEntry:
    """Return an operator's revocation; any record is one."""
    actor, id_ = UNKNOWN_ACTOR, ""
    try:
        decision = from_wire(ConsentDecision, record.headers, record.value)
        actor, id_ = decision.actor, decision.id
    except InvalidEvent:
        pass
    return HistoryEntry(utc(record.appended_ms), Decision.REVOKED, actor, Channel.OPERATOR, id_)
