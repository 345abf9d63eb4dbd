"""Read the owners' decisions: what stands for an account, how that came, what is still kept."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple, TypeVar

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, is_account
from erasestream.topics.catalog.topic_names import ERASURES, LEDGER, consent_of
from erasestream.topics.consent.ledger_view import Erasures, GrantHistory, ledger_key
from erasestream.topics.consent.view import ActiveGrant, Decisions
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.consumer.partition_reader import (
    CachedPartitionState,
    PartitionReader,
    State,
)
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.records import Partition, Record

READ_TIMEOUT_S = 15.0

S = TypeVar("S", bound=State)


class HistoryEntry(NamedTuple):
    """One decision of the past, as the ledger has it."""

    at: datetime
    decision: Decision
    actor: str
    channel: Channel


def checked(account: str) -> AccountId:
    """The account, if it can be one.  Raises `InvalidEvent` (invalid_account)."""
    if not is_account(account):
        raise InvalidEvent(code=Code.INVALID_ACCOUNT)
    return AccountId(account)


class ConsentReader:
    """What stands for an account now, and how that came.  Thread-safe.

    Every question reads the account's partition up to where it reaches at that moment.  What
    stands, and what is erased, is kept between questions, some 80 bytes for each account that
    is granted and for each grant of any lane that was erased: the next question reads only what
    is new.
    """

    def __init__(self, *, connection: Connection, lane: Lane) -> None:
        self._reads = PartitionReader(connection)
        self._lane = lane
        admin = Admin(connection)
        self._queries = OffsetQueries(admin)
        self.partitions = admin.check_rights({consent_of(lane): (), LEDGER: (), ERASURES: ()})
        self._decisions = self._followed(consent_of(lane), self._no_decisions)
        self._erasures = self._followed(ERASURES, Erasures)

    def _followed(self, topic: str, make: Callable[[], S]) -> list[CachedPartitionState[S]]:
        """Each partition of the topic."""
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

    def _no_decisions(self) -> Decisions:
        topic = consent_of(self._lane)
        return Decisions(partitions={topic: self.partitions[topic]})

    def active_grant(self, account: str) -> ActiveGrant | None:
        """The grant in force; None if the account is not opted in.

        A grant that is erased is in force no more, whatever the last decision was.
        """
        return self.look(checked(account))[0]

    def look(self, account: AccountId) -> tuple[ActiveGrant | None, Mark]:
        """What stands, and how far the account's partition was read for that."""
        with self._decisions[self.place(account).number].now() as (decisions, mark):
            standing = decisions.active_grant(self._lane, account)
        if standing is not None and self._is_erased(account, standing.grant):
            standing = None
        return standing, mark

    def reach(self, account: AccountId) -> Mark:
        """How far the account's partition reaches now, or a little before."""
        at = self.place(account)
        return {at: self._queries.log_end(at)}

    def between(self, account: AccountId, begin: Mark, offset: int) -> list[Record]:
        """The account's records from `begin` up to this offset, which is acknowledged."""
        at = self.place(account)
        if offset == begin[at]:
            return []
        records: list[Record] = []
        self.read(
            at.topic, key=account.encode(), apply=records.append, begin=begin, end={at: offset}
        )
        return records

    def place(self, account: AccountId) -> Partition:
        """Where the account's decisions lie."""
        topic = consent_of(self._lane)
        return Partition(topic, partition_of(account.encode(), self.partitions[topic]))

    def _is_erased(self, account: AccountId, grant: GrantId) -> bool:
        number = partition_of(ledger_key(self._lane, account), self.partitions[ERASURES])
        with self._erasures[number].now() as (erasures, _):
            return grant in erasures

    def account_grants(self, account: str) -> "AccountGrants":
        """Every grant of this account."""
        return AccountGrants(self, self._lane, checked(account))

    def unerased_grants(self, account: str) -> list[GrantId]:
        """Every grant of this account whose erasure the eraser has not confirmed yet."""
        return self.account_grants(account).open()

    def history(self, account: str) -> list[HistoryEntry]:
        """Every decision of this account, oldest first."""
        key = ledger_key(self._lane, checked(account))
        records: list[Record] = []
        self.read(LEDGER, key=key, apply=records.append)
        return list(_history(records, key))

    def read(
        self,
        topic: str,
        *,
        key: bytes,
        apply: Callable[[Record], None],
        begin: Mark | None = None,
        end: Mark | None = None,
    ) -> Mark:
        """Apply the records of one key in its partition; how far it was read."""
        return self._reads.read(
            Partition(topic, partition_of(key, self.partitions[topic])),
            lambda record: apply(record) if record.key == key else None,
            begin=begin,
            end=end,
            deadline_s=READ_TIMEOUT_S,
        )


class AccountGrants:
    """The grants of one account, and which are erased.  Asked again, it reads only what is new."""

    def __init__(self, reader: ConsentReader, lane: Lane, account: AccountId) -> None:
        self._reader, self._lane, self._account = reader, lane, account
        self._grants = GrantHistory()
        self._reached: dict[str, Mark] = {}

    def open(self) -> list[GrantId]:
        """Those whose erasure the eraser has not confirmed yet."""
        self._catch_up()
        return self._grants.open(self._lane, self._account)

    def open_before(self, decision_id: str) -> list[GrantId] | None:
        """Those among them that were made before this decision.

        None if the ledger, as we were shown it, does not have that decision: a leader that
        was deposed and does not know it yet shows the ledger of before.
        """
        self._catch_up()
        return self._grants.open_before(self._lane, self._account, decision_id)

    def _catch_up(self) -> None:
        """All of what is new, or nothing of it."""
        key = ledger_key(self._lane, self._account)
        for topic in (LEDGER, ERASURES):
            begin, records = self._reached.get(topic), list[Record]()
            reached = self._reader.read(topic, key=key, apply=records.append, begin=begin)
            for record in records:
                # A leader that was deposed has less, and then all of it comes again.
                if begin is None or record.offset >= begin[record.at]:
                    self._grants.apply(record)
            self._reached[topic] = reached


def _history(records: list[Record], key: bytes) -> Iterator[HistoryEntry]:
    for record in records:
        if record.key == key and type_of(record.headers) is DecisionEntry:
            entry = from_wire(DecisionEntry, record.headers, record.value)
            appended_at = utc(record.appended_ms)
            yield HistoryEntry(appended_at, entry.decision, entry.actor, entry.channel)
