"""Reader of consent decisions: active grant, history and unerased grants of an account."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from typing import NamedTuple, TypeVar

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, is_account
from erasestream.topics.catalog.topic_names import consent_of, erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import Place, place
from erasestream.topics.consent.ledger_view import Erasures, GrantHistory
from erasestream.topics.consent.view import ActiveGrant, ConsentState
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.cached_partition_state import CachedPartitionState, State
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


def validated(account: str) -> AccountId:
    """Return the account id, or raise `InvalidEvent` (invalid_account)."""
    if not is_account(account):
        raise InvalidEvent(code=Code.INVALID_ACCOUNT)
    return AccountId(account)


class ConsentReader:
    """Current and past decisions of the accounts of one lane.  Thread-safe.

    Every query reads the account's partition up to its end offset at that moment.  Active grants
    and erasures are cached between queries, about 80 bytes for each granted account and for each
    erased grant of the lane: the next query reads new records only.
    """

    def __init__(self, *, connection: Connection, lane: Lane) -> None:
        self._lane = lane
        with ExitStack() as opened:
            admin = opened.enter_context(Admin(connection))
            self.partitions = admin.check_rights(
                {consent_of(lane): (), ledger_of(lane): (), erasures_of(lane): ()}
            )
            self._queries = OffsetQueries(admin)
            self._reads = opened.enter_context(closing(PartitionReader(connection)))
            self._opened = opened.pop_all()
        self._decisions = self._cached(consent_of(lane), self._empty_state)
        self._erasures = self._cached(erasures_of(lane), lambda: Erasures(self.partitions))

    def close(self) -> None:
        """Disconnect.  Idempotent."""
        self._opened.close()

    def _cached(self, topic: str, make: Callable[[], S]) -> list[CachedPartitionState[S]]:
        """Return a cached state for each partition of the topic."""
        return [
            CachedPartitionState(
                self._reads,
                Partition(topic, number),
                make=make,
                queries=self._queries,
                deadline_s=READ_TIMEOUT_S,
            )
            for number in range(self.partitions[topic])
        ]

    def _empty_state(self) -> ConsentState:
        topic = consent_of(self._lane)
        return ConsentState(partitions={topic: self.partitions[topic]})

    def active_grant(self, account: str) -> ActiveGrant | None:
        """Return the active grant; None if the account is not opted in.

        An erased grant is not active, whatever the last decision is.
        """
        return self.lookup(validated(account))[0]

    def lookup(self, account: AccountId) -> tuple[ActiveGrant | None, Mark]:
        """Return the active grant, and the offset up to which the partition was read."""
        with self._decisions[self.partition_for(account).number].now() as (decisions, mark):
            active = decisions.active_grant(self._lane, account)
        if active is not None and self._is_erased(account, active.grant):
            active = None
        return active, mark

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
        place = Place(at, account.encode())
        self.read(place, apply=records.append, begin=begin, end={at: offset})
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
        records: list[Record] = []
        owner = validated(account)
        self.read(self.place(ledger_of(self._lane), owner), apply=records.append)
        return list(_history(records, self._lane, owner))

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
        self._reader, self._lane, self._account = reader, lane, account
        self._grants = GrantHistory(reader.partitions)
        self._reached: dict[str, Mark] = {}

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

    def _catch_up(self) -> None:
        """Apply all new records of a topic, or none."""
        for topic in (ledger_of(self._lane), erasures_of(self._lane)):
            begin, records = self._reached.get(topic), list[Record]()
            entries = self._reader.place(topic, self._account)
            reached = self._reader.read(entries, apply=records.append, begin=begin)
            for record in records:
                # A deposed leader has fewer records; then they are read from the beginning.
                if begin is None or record.offset >= begin[record.at]:
                    self._grants.apply(record)
            self._reached[topic] = reached


def _history(records: list[Record], lane: Lane, account: AccountId) -> Iterator[HistoryEntry]:
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
        yield HistoryEntry(utc(record.appended_ms), entry.decision, entry.actor, entry.channel)
