"""Grants of each account in the order of its ledger, and which of them are erased.

Rules:

* `ledger.L` holds the decisions.  Erasures are taken from `erasures.L` alone: the lane's account
  service can write to the ledger, only the eraser to `erasures.L`.
* An entry counts only where it belongs (`ledger_place.py`).
* The first entry with a decision's id counts; later ones are ignored (`decision_rows.py`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import UUID

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.decision_rows import MANY, DecisionRows
from erasestream.topics.consent.ledger_place import belongs, ledger_key
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.records import Partition, Record


class Erasures:
    """Grants whose erasure the eraser has confirmed, about 85 bytes each.  Pure.

    A grant's id is derived from lane and account (`ids.grant_id`), so that it suffices.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._erased: set[bytes] = set()

    def apply(self, record: Record) -> None:
        """Apply one record; records of other topics are ignored."""
        try:
            entry = from_wire(ErasureEntry, record.headers, record.value)
        except InvalidEvent:
            return
        if belongs(record, erasures_of(entry.lane), entry.account, self._partitions):
            self.add(entry.grant)

    def add(self, grant: GrantId) -> None:
        """Add a grant whose erasure is confirmed."""
        self._erased.add(UUID(grant).bytes)

    def __contains__(self, grant: GrantId) -> bool:
        """Return whether the erasure of this grant is confirmed."""
        return UUID(grant).bytes in self._erased


class _UnerasedGrants:
    """Grants whose erasure is not confirmed.

    A query takes no longer for an account with many decisions, most of whose grants are erased.
    """

    def __init__(self, decisions: DecisionRows, erased: Erasures) -> None:
        self._decisions = decisions
        self._erased = erased
        self._erased_below: dict[bytes, int] = {}
        """Row before which an account has no unerased grant; of accounts with many decisions."""

    def before(self, lane: Lane, account: AccountId, end: int, most: int | None) -> list[GrantId]:
        """Return the unerased grants of the rows before `end`."""
        key = ledger_key(lane, account)
        erased_below = self._erased_below.get(key, 0)
        found: list[GrantId] = []
        for decision in self._decisions.granting(key, erased_below, end):
            if len(found) == most:
                break
            grant = grant_id(lane, account, decision) if decision is not None else None
            if grant is not None and grant not in self._erased:
                found.append(grant)
            elif not found:
                erased_below += 1
        if erased_below >= MANY:
            self._erased_below[key] = erased_below
        return found


class GrantHistory:
    """All decisions of the ledger, and the confirmed erasures.  Pure: the state behind the view.

    The ledger is permanent, and so is this state: a decision that is processed late still needs
    the decisions before and after it.  25 bytes for each decision and about 170 for each account:
    203 MB for one decision of each of a million accounts, 27 MB for as many decisions of a
    thousand accounts (measured).

    The grants that a query returns are not erased, and at most `most`, if it is given.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._decisions = DecisionRows()
        self._erased = Erasures(partitions)
        self._unerased = _UnerasedGrants(self._decisions, self._erased)

    def apply(self, record: Record) -> None:
        """Apply one entry of a ledger or of confirmed erasures.

        Entries of other kinds, and entries where they do not belong, are ignored.
        """
        try:
            if type_of(record.headers) is DecisionEntry:
                entry = from_wire(DecisionEntry, record.headers, record.value)
                if belongs(record, ledger_of(entry.lane), entry.account, self._partitions):
                    key = ledger_key(entry.lane, entry.account)
                    self._decisions.append(key, entry, record.appended_ms)
            else:
                self._erased.apply(record)
        except InvalidEvent:
            return

    def confirm(self, grant: GrantId) -> None:
        """Note an erasure that was acknowledged, before its entry is read back."""
        self._erased.add(grant)

    def is_erased(self, grant: GrantId) -> bool:
        """Return whether the eraser has confirmed the erasure of this grant."""
        return grant in self._erased

    def has(self, lane: Lane, account: AccountId, decision: str) -> bool:
        """Return whether the entry of this decision, and so all before it, were applied."""
        return self._decisions.number(ledger_key(lane, account), decision) is not None

    def ended_by_revocation(
        self, lane: Lane, account: AccountId, decision: str, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before a revocation; none if the ledger does not have it."""
        end = self._decisions.number(ledger_key(lane, account), decision) or 0
        return self._unerased.before(lane, account, end, most)

    def ended_by_grant(
        self, lane: Lane, account: AccountId, decision: str, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before the last revocation that precedes this grant.

        That revocation may have been compacted before the eraser read it.  If it has closed the
        account, this grant has ended as well: its writer did not know, or did not ask.
        """
        key = ledger_key(lane, account)
        number = self._decisions.number(key, decision)
        end = 0 if number is None else self._decisions.ended(key, number + 1)
        return self._unerased.before(lane, account, end, most)

    def revoked_until(
        self, lane: Lane, account: AccountId, until_ms: int, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before the last revocation whose entry was appended until then."""
        key = ledger_key(lane, account)
        end = self._decisions.ended(key, self._decisions.appended_until(key, until_ms))
        return self._unerased.before(lane, account, end, most)

    def last_revocation(
        self, lane: Lane, account: AccountId, *, before: str, until_ms: int
    ) -> tuple[str, int] | None:
        """Return the id of a revocation, and when its entry was appended, in ms since 1970.

        The last one before this decision, or if the ledger does not have it, until then.
        """
        key = ledger_key(lane, account)
        end = self._decisions.number(key, before) if before else None
        if end is None:
            end = self._decisions.appended_until(key, until_ms)
        number = self._decisions.last_revocation(key, end)
        return self._decisions.row(key, number) if number else None

    def appended_until(
        self, lane: Lane, account: AccountId, until_ms: int, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants whose entries were appended until then."""
        end = self._decisions.appended_until(ledger_key(lane, account), until_ms)
        return self._unerased.before(lane, account, end, most)

    def unerased_by_operator(
        self,
        lane: Lane,
        account: AccountId,
        decision: str,
        until_ms: int,
    ) -> list[GrantId] | None:
        """Return the unerased grants that an operator's revocation ends.

        Those whose entries precede the entry that the eraser writes of it, and were appended
        until then (`revocations.ends_until_ms`).  None if that entry was not applied: then a
        grant's may be missing, too.
        """
        key = ledger_key(lane, account)
        row = self._decisions.number(key, decision)
        if row is None:
            return None
        end = self._decisions.appended_until(key, until_ms)
        return self._unerased.before(lane, account, min(row, end), None)

    def unerased(self, lane: Lane, account: AccountId) -> list[GrantId]:
        """Return the grants whose erasure the eraser has not confirmed."""
        end = self._decisions.count(ledger_key(lane, account))
        return self._unerased.before(lane, account, end, None)

    def unerased_before(
        self, lane: Lane, account: AccountId, decision: str
    ) -> list[GrantId] | None:
        """Return the unerased grants before this decision.

        None if the ledger does not have the decision (yet): the answer is unknown.
        """
        end = self._decisions.number(ledger_key(lane, account), decision)
        return None if end is None else self._unerased.before(lane, account, end, None)


class LedgerView:
    """Grants and erasures of the accounts of some lanes, read from the brokers."""

    def __init__(self, *, connection: Connection, partitions: Mapping[str, int]) -> None:
        """Read these ledgers and confirmed erasures; `partitions` are their partition counts."""
        self.grants: GrantHistory = GrantHistory(partitions)
        self.unfinished: UnfinishedErasures = UnfinishedErasures(partitions)
        self._complete: Counter[Partition] = Counter()
        self.partitions: tuple[Partition, ...] = tuple(
            Partition(topic, n) for topic, count in partitions.items() for n in range(count)
        )
        self._view = CompactedView(connection=connection, topics=partitions, apply=self._apply)

    def catch_up(self, partitions: Iterable[Partition], *, deadline_s: float) -> set[Partition]:
        """Apply every record acknowledged in these before this call; return where that is done.

        A partition whose leader does not answer in time is not among them.
        """
        return self._view.catch_up_reachable(partitions, deadline_s=deadline_s)

    def complete_to(self, at: Partition) -> int:
        """Return the offset up to which every record of a partition was applied, from the first.

        These topics are written one record at a time, outside transactions, and nothing deletes
        from them, so that every offset has a record.  A gap stops the count.
        """
        return self._complete[at]

    def _apply(self, record: Record) -> None:
        self.grants.apply(record)
        self.unfinished.apply(record)
        if record.offset == self._complete[record.at]:
            self._complete[record.at] += 1

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
