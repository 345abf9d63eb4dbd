"""Which grants a decision leaves without force, as the ledger tells."""

from datetime import UTC, datetime

from erasestream.schemas.cloudevents import to_wire
from erasestream.schemas.consent import Channel, Decision
from erasestream.schemas.events import Event
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, new_upload_id
from erasestream.schemas.ledger import DecisionEntry, ErasureEntry, Finding, FindingKind
from erasestream.topics.catalog import LEDGER
from erasestream.topics.ledger_view import Grants, ledger_key
from erasestream.topics.record import Partition, Record

LANE, OTHER = Lane("shop"), Lane("bulk")
ACCOUNT = AccountId("acct-1")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Ledger:
    """A ledger of one account's entries, applied as they are written."""

    def __init__(self) -> None:
        self.grants = Grants()
        self._count = 0

    def _id(self) -> str:
        self._count += 1
        return new_upload_id(self._count, bytes(10))

    def decide(self, decision: Decision, *, key: bytes | None = None) -> GrantId:
        """Write a decision; the grant that it makes if it is one."""
        entry = DecisionEntry(
            id=self._id(),
            time=NOW,
            lane=LANE,
            account=ACCOUNT,
            decision=decision,
            actor="owner",
            channel=Channel.LIBRARY,
        )
        self.write(entry, key=key)
        return grant_id(LANE, ACCOUNT, entry.id)

    def erase(self, grant: GrantId) -> None:
        """Write an erasure."""
        self.write(ErasureEntry(id=self._id(), time=NOW, lane=LANE, account=ACCOUNT, grant=grant))

    def write(self, event: Event, *, key: bytes | None = None) -> None:
        """Write any entry."""
        wire = to_wire(event, source="/test")
        at = Partition(LEDGER, 0)
        key = key or ledger_key(LANE, ACCOUNT)
        self.grants.apply(Record(at, self._count, 0, key, wire.headers, wire.value))

    def dead(self, current: GrantId | None = None) -> list[GrantId]:
        """What the last decision leaves without force."""
        return self.grants.dead(LANE, ACCOUNT, current=current)


def test_a_revocation_ends_every_grant() -> None:
    """Also one that a racing writer left behind."""
    ledger = Ledger()
    first, second = ledger.decide(Decision.GRANTED), ledger.decide(Decision.GRANTED)
    ledger.decide(Decision.REVOKED)
    assert ledger.dead() == [first, second]


def test_what_is_erased_is_not_erased_again() -> None:
    """And takes no memory any more."""
    ledger = Ledger()
    grant = ledger.decide(Decision.GRANTED)
    ledger.decide(Decision.REVOKED)
    ledger.erase(grant)
    assert ledger.dead() == []


def test_a_grant_ends_those_before_a_revocation_that_was_not_seen() -> None:
    """Compaction may have taken the revocation away before the eraser came to it."""
    ledger = Ledger()
    first = ledger.decide(Decision.GRANTED)
    ledger.decide(Decision.REVOKED)
    second = ledger.decide(Decision.GRANTED)
    assert ledger.dead(second) == [first]


def test_a_grant_does_not_end_one_that_races_with_it() -> None:
    """Without a revocation between them nothing says that one of them is over."""
    ledger = Ledger()
    first, second = ledger.decide(Decision.GRANTED), ledger.decide(Decision.GRANTED)
    assert ledger.dead(first) == []
    assert ledger.dead(second) == []


def test_a_revocation_after_the_grant_is_left_to_its_own_record() -> None:
    """The ledger is ahead of the consent topic: what is in force there stays until it says so."""
    ledger = Ledger()
    grant = ledger.decide(Decision.GRANTED)
    ledger.decide(Decision.REVOKED)
    assert ledger.dead(grant) == []


def test_entries_under_another_key_count_for_nobody() -> None:
    """A lane can not slip its own entries in among another's."""
    ledger = Ledger()
    ledger.decide(Decision.GRANTED, key=ledger_key(OTHER, ACCOUNT))
    assert ledger.dead() == []
    assert ledger.grants.dead(OTHER, ACCOUNT, current=None) == []


def test_other_entries_change_nothing() -> None:
    """Findings stand in the same ledger."""
    ledger = Ledger()
    grant = ledger.decide(Decision.GRANTED)
    kind = FindingKind.CONSENT_UNREADABLE
    ledger.write(Finding(id=new_upload_id(9, bytes(10)), time=NOW, kind=kind, detail="x"))
    assert ledger.dead() == [grant]
