"""Grants of each account in the order of its ledger, and which of them are erased.

Rules:

* `ledger.L` holds the decisions.  Erasures are taken from `erasures.L` alone: the lane's account
  service can write to the ledger, only the eraser to `erasures.L`.
* An entry counts only where it belongs (`ledger_place.py`).
* The first entry with a decision's id counts; later ones are ignored (`decision_rows.py`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain

from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.topics.consent.decision_rows import DECISION_BYTES, DecisionRows
from erasestream.topics.consent.erased_grants import Erasures, UnerasedGrants
from erasestream.topics.consent.ledger_pages import LedgerPages, PageWriter, end_of
from erasestream.topics.consent.ledger_place import ledger_key
from erasestream.topics.consent.ledger_rows import GRANT, KeyOf, RowKind, row_of, split_rows
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, each
from erasestream.topics.kafka.records import Partition, Record

_DECISION, _MARKED = bytes([RowKind.DECISION]), bytes([RowKind.MARKED])


class GrantHistory:
    """All decisions of the ledger, and the confirmed erasures.  Pure: the state behind the view.

    The ledger is permanent, and so is this state: a decision that is processed late still needs
    the decisions before and after it.  25 bytes for each decision and about 170 for each account:
    203 MB for one decision of each of a million accounts, 27 MB for as many decisions of a
    thousand accounts (measured).

    The grants that a query returns are not erased, and at most `most`, if it is given.
    """

    def __init__(self, partitions: Mapping[str, int], key_of: KeyOf = lambda key: key) -> None:
        """`partitions`: the partition counts by topic."""
        self._partitions = partitions
        self._key_of = key_of
        self._decisions = DecisionRows()
        self._erased = Erasures(partitions)
        self._unerased = UnerasedGrants(self._decisions, self._erased, key_of)

    def apply(self, record: Record) -> None:
        """Apply one entry of a ledger or of confirmed erasures, in its place; ignore any other."""
        self.apply_row(row_of(record, self._partitions, self._key_of))

    def apply_row(self, row: bytes) -> None:
        """Apply what is kept of a record."""
        if row[:1] == _DECISION:
            self._decisions.append_packed(row[1 + DECISION_BYTES :], row[1 : 1 + DECISION_BYTES])
        elif row[:1] == _MARKED:
            self._erased.add_raw(row[GRANT])

    def confirm(self, grant: GrantId) -> None:
        """Note an erasure that was acknowledged, before its entry is read back."""
        self._erased.add(grant)

    def is_erased(self, grant: GrantId) -> bool:
        """Return whether the eraser has confirmed the erasure of this grant."""
        return grant in self._erased

    def has(self, lane: Lane, account: AccountId, decision: str) -> bool:
        """Return whether the entry of this decision, and so all before it, were applied."""
        return self._decisions.number(self._key(lane, account), decision) is not None

    def ended_by_revocation(
        self, lane: Lane, account: AccountId, decision: str, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before a revocation; none if the ledger does not have it."""
        end = self._decisions.number(self._key(lane, account), decision) or 0
        return self._unerased.before(lane, account, end, most)

    def ended_by_grant(
        self, lane: Lane, account: AccountId, decision: str, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before the last revocation that precedes this grant.

        That revocation may have been compacted before the eraser read it.  If it has closed the
        account, this grant has ended as well: its writer did not know, or did not ask.
        """
        key = self._key(lane, account)
        number = self._decisions.number(key, decision)
        end = 0 if number is None else self._decisions.ended(key, number + 1)
        return self._unerased.before(lane, account, end, most)

    def revoked_until(
        self, lane: Lane, account: AccountId, until_ms: int, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants before the last revocation whose entry was appended until then."""
        key = self._key(lane, account)
        end = self._decisions.ended(key, self._decisions.appended_until(key, until_ms))
        return self._unerased.before(lane, account, end, most)

    def last_revocation(
        self, lane: Lane, account: AccountId, *, before: str, until_ms: int
    ) -> tuple[str, int] | None:
        """Return the id of a revocation, and when its entry was appended, in ms since 1970.

        The last one before this decision, or if the ledger does not have it, until then.
        """
        key = self._key(lane, account)
        end = self._decisions.number(key, before) if before else None
        if end is None:
            end = self._decisions.appended_until(key, until_ms)
        number = self._decisions.last_revocation(key, end)
        return self._decisions.row(key, number) if number else None

    def appended_until(
        self, lane: Lane, account: AccountId, until_ms: int, *, most: int | None = None
    ) -> list[GrantId]:
        """Return the grants whose entries were appended until then."""
        end = self._decisions.appended_until(self._key(lane, account), until_ms)
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
        key = self._key(lane, account)
        row = self._decisions.number(key, decision)
        if row is None:
            return None
        end = self._decisions.appended_until(key, until_ms)
        return self._unerased.before(lane, account, min(row, end), None)

    def unerased(self, lane: Lane, account: AccountId) -> list[GrantId]:
        """Return the grants whose erasure the eraser has not confirmed."""
        end = self._decisions.count(self._key(lane, account))
        return self._unerased.before(lane, account, end, None)

    def unerased_before(
        self, lane: Lane, account: AccountId, decision: str
    ) -> list[GrantId] | None:
        """Return the unerased grants before this decision.

        None if the ledger does not have the decision (yet): the answer is unknown.
        """
        end = self._decisions.number(self._key(lane, account), decision)
        return None if end is None else self._unerased.before(lane, account, end, None)

    def _key(self, lane: Lane, account: AccountId) -> bytes:
        return self._key_of(ledger_key(lane, account))


class LedgerView:
    """Grants and erasures of the accounts of some lanes, read from the brokers.

    With pages (`ledger_pages.py`), only what is behind them is read from the brokers.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        partitions: Mapping[str, int],
        pages: LedgerPages | None = None,
        key_of: KeyOf = lambda key: key,
    ) -> None:
        """Read these ledgers and confirmed erasures; `partitions` are their partition counts.

        `key_of`: the same as ever for the same pages.
        """
        self.grants: GrantHistory = GrantHistory(partitions, key_of)
        self.unfinished: UnfinishedErasures = UnfinishedErasures(partitions)
        self._counts = partitions
        self._key_of = key_of
        self._complete: Counter[Partition] = Counter()
        self.partitions: tuple[Partition, ...] = tuple(
            Partition(topic, n) for topic, count in partitions.items() for n in range(count)
        )
        kept = pages.read() if pages else {}
        begin = {at: end_of(found) for at, found in kept.items() if at in self.partitions}
        for at in begin:
            for row in chain.from_iterable(map(split_rows, kept[at])):
                self._apply_row(at, row)
        self._complete.update(begin)
        self._writers = {
            at: PageWriter(partial(pages.write, at), first=begin.get(at, 0))
            for at in self.partitions
            if pages
        }
        self._view = CompactedView(connection=connection, topics={}, apply=self._apply)
        try:
            self._view.assign(self.partitions, each(self._apply), start=begin)
        except BaseException:
            self._view.close()
            raise

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
        row = row_of(record, self._counts, self._key_of)
        self._apply_row(record.at, row)
        if record.at in self._writers:
            self._writers[record.at].add(record.offset, row)
        if record.offset == self._complete[record.at]:
            self._complete[record.at] += 1

    def _apply_row(self, at: Partition, row: bytes) -> None:
        self.grants.apply_row(row)
        self.unfinished.apply_row(at, row)

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
