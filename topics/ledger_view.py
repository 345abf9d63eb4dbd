"""Which grants each account had, in which order, and which of them are erased.

What was decided stands in the ledger.  That a grant is erased is believed only of the topic
`erasures`: every lane can write to the ledger, and only the eraser to that one.
"""

from collections import defaultdict
from typing import NamedTuple

from erasestream.schemas.cloudevents import from_wire, type_of
from erasestream.schemas.consent import Decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.schemas.ledger import DecisionEntry, ErasureEntry
from erasestream.topics.catalog import ERASURES, LEDGER
from erasestream.topics.compacted import CompactedView
from erasestream.topics.connection import Connection
from erasestream.topics.record import Record


class Decided(NamedTuple):
    """A decision in the ledger; its grant, if it makes one."""

    id: str
    grant: GrantId | None


class Grants:
    """The state behind the view; pure.

    What stands in the ledger for ever is kept here for as long: a decision that is come to
    late must still find what was before it, and what came after.
    """

    def __init__(self) -> None:
        self._decisions: dict[bytes, list[Decided]] = defaultdict(list)
        self._erased: dict[bytes, set[GrantId]] = defaultdict(set)

    def apply(self, record: Record) -> None:
        """Take one entry of the ledger or of `erasures` into account.

        Entries of other kinds change nothing, nor does one in the other topic.
        """
        key = record.key or b""
        try:
            event = type_of(record.headers)
            if event is DecisionEntry and record.at.topic == LEDGER:
                self._decided(key, from_wire(DecisionEntry, record.headers, record.value))
            elif event is ErasureEntry and record.at.topic == ERASURES:
                entry = from_wire(ErasureEntry, record.headers, record.value)
                self._erased[key].add(entry.grant)
        except InvalidEvent:
            return

    def _decided(self, key: bytes, entry: DecisionEntry) -> None:
        if key != ledger_key(entry.lane, entry.account):
            return
        is_grant = entry.decision is Decision.GRANTED
        grant = grant_id(entry.lane, entry.account, entry.id) if is_grant else None
        self._decisions[key].append(Decided(entry.id, grant))

    def ended_by_revocation(
        self, lane: Lane, account: AccountId, decision: str | None
    ) -> list[GrantId]:
        """The grants that a revocation ends: those before it, and itself if it is a void grant.

        All of them if the ledger does not have it: it was not written by our writer.  Whether
        a grant is erased already plays no part: marking it again changes nothing.
        """
        made = self._made(lane, account)
        end = next((n for n, each in enumerate(made, 1) if each.id == decision), len(made))
        return [each.grant for each in made[:end] if each.grant is not None]

    def ended_by_grant(self, lane: Lane, account: AccountId, decision: str) -> list[GrantId]:
        """The grants before the last revocation before this grant.

        That revocation may be compacted away before it was come to.
        """
        made = self._made(lane, account)
        until = next((n for n, each in enumerate(made) if each.id == decision), 0)
        revocations = [n for n, each in enumerate(made[:until]) if each.grant is None]
        end = revocations[-1] if revocations else 0
        return [each.grant for each in made[:end] if each.grant is not None]

    def open(self, lane: Lane, account: AccountId) -> list[GrantId]:
        """The grants whose erasure the eraser has not confirmed."""
        erased = self._erased.get(ledger_key(lane, account), set())
        made = (each.grant for each in self._made(lane, account))
        return [grant for grant in made if grant is not None and grant not in erased]

    def _made(self, lane: Lane, account: AccountId) -> list[Decided]:
        return self._decisions.get(ledger_key(lane, account), [])


def ledger_key(lane: Lane, account: AccountId) -> bytes:
    """The key that all entries about an account have in the ledger."""
    return f"{lane}/{account}".encode()


class LedgerView:
    """The grants of all accounts, as fresh as the mark that is asked for."""

    def __init__(self, *, connection: Connection, partitions: int) -> None:
        self.grants = Grants()
        self._view = CompactedView(
            connection=connection, topics={LEDGER: partitions}, apply=self.grants.apply
        )

    def catch_up(self, *, deadline_s: float) -> None:
        """Apply all that was acknowledged before this call.  Raises `Unavailable`."""
        self._view.catch_up(self._view.mark(), deadline_s=deadline_s)

    def close(self) -> None:
        """Stop reading."""
        self._view.close()
