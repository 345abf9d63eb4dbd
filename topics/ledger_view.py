"""What the ledger says of each account's grants: which were made, and which are erased.

Kept per account are only the grants that may still have something kept under them, so that
memory follows the living grants and not the history.
"""

from erasestream.schemas.cloudevents import from_wire, type_of
from erasestream.schemas.consent import Decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id
from erasestream.schemas.ledger import DecisionEntry, ErasureEntry
from erasestream.topics.catalog import LEDGER
from erasestream.topics.compacted import CompactedView
from erasestream.topics.connection import Connection
from erasestream.topics.record import Record


class Grants:
    """The state behind the view; pure.

    An account's grants stand in the order of the ledger.  `None` among them is a revocation.
    """

    def __init__(self) -> None:
        self._made: dict[bytes, list[GrantId | None]] = {}

    def apply(self, record: Record) -> None:
        """Take one entry of the ledger into account; entries of other kinds change nothing."""
        key = record.key or b""
        try:
            event = type_of(record.headers)
            if event is DecisionEntry:
                self._decided(key, from_wire(DecisionEntry, record.headers, record.value))
            elif event is ErasureEntry:
                self._erased(key, from_wire(ErasureEntry, record.headers, record.value))
        except InvalidEvent:
            return

    def _decided(self, key: bytes, entry: DecisionEntry) -> None:
        if key != ledger_key(entry.lane, entry.account):
            return
        made = self._made.setdefault(key, [])
        if entry.decision is Decision.GRANTED:
            made.append(grant_id(entry.lane, entry.account, entry.id))
        elif made:
            made.append(None)
        if not made:
            del self._made[key]

    def _erased(self, key: bytes, entry: ErasureEntry) -> None:
        left = [grant for grant in self._made.get(key, []) if grant != entry.grant]
        if any(left):
            self._made[key] = left
        else:
            self._made.pop(key, None)

    def dead(self, lane: Lane, account: AccountId, *, current: GrantId | None) -> list[GrantId]:
        """The grants that the account's last decision leaves without force.

        `current` is the grant that this decision made, or None for a revocation.  After a
        revocation all are dead.  After a grant those are that were made before the last
        revocation before it: that revocation may be compacted away before it was seen.
        """
        made = self._made.get(ledger_key(lane, account), [])
        if current is None:
            return [grant for grant in made if grant is not None]
        until = made.index(current) if current in made else 0
        revocations = [i for i, grant in enumerate(made[:until]) if grant is None]
        end = revocations[-1] if revocations else 0
        return [grant for grant in made[:end] if grant is not None]


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
