"""Which grants are erased, and which of an account's are not."""

from collections.abc import Mapping
from uuid import UUID

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.decision_rows import MANY, DecisionRows
from erasestream.topics.consent.ledger_place import belongs, ledger_key
from erasestream.topics.consent.ledger_rows import KeyOf
from erasestream.topics.kafka.records import Record


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
        self.add_raw(UUID(grant).bytes)

    def add_raw(self, grant: bytes) -> None:
        """Add a grant by the bytes of its id."""
        self._erased.add(grant)

    def __contains__(self, grant: GrantId) -> bool:
        """Return whether the erasure of this grant is confirmed."""
        return UUID(grant).bytes in self._erased


class UnerasedGrants:
    """Grants whose erasure is not confirmed.

    A query takes no longer for an account with many decisions, most of whose grants are erased.
    """

    def __init__(self, decisions: DecisionRows, erased: Erasures, key_of: KeyOf) -> None:
        self._key_of = key_of
        self._decisions = decisions
        self._erased = erased
        self._erased_below: dict[bytes, int] = {}
        """Row before which an account has no unerased grant; of accounts with many decisions."""

    def before(self, lane: Lane, account: AccountId, end: int, most: int | None) -> list[GrantId]:
        """Return the unerased grants of the rows before `end`."""
        key = self._key_of(ledger_key(lane, account))
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
