"""Which grants a decision leaves without force, as the ledger tells."""

from datetime import UTC, datetime

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry, Finding, FindingKind
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, new_upload_id
from erasestream.topics.catalog.topic_names import ERASURES, LEDGER
from erasestream.topics.consent.ledger_view import GrantHistory, ledger_key
from erasestream.topics.kafka.records import Partition, Record

LANE, OTHER = Lane("shop"), Lane("bulk")
ACCOUNT = AccountId("acct-1")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Ledger:
    """A ledger of one account's entries, applied as they are written."""

    def __init__(self) -> None:
        self.grants = GrantHistory()
        self._count = 0

    def _id(self) -> str:
        self._count += 1
        return new_upload_id(self._count, bytes(10))

    def decide(self, decision: Decision, *, key: bytes | None = None) -> str:
        """Write a decision; its id."""
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
        return entry.id

    def erase(self, grant: GrantId, *, topic: str) -> None:
        """Write an erasure."""
        entry = ErasureEntry(id=self._id(), time=NOW, lane=LANE, account=ACCOUNT, grant=grant)
        self.write(entry, topic=topic)

    def write(self, event: Event, *, key: bytes | None = None, topic: str = LEDGER) -> None:
        """Write any entry."""
        wire = to_wire(event, source="/test")
        at = Partition(topic, 0)
        key = key or ledger_key(LANE, ACCOUNT)
        self.grants.apply(Record(at, self._count, self._count, key, wire.headers, wire.value))

    def ended_by_revocation(self, decision: str) -> list[GrantId]:
        """What a revocation ends."""
        return self.grants.ended_by_revocation(LANE, ACCOUNT, decision)

    def ended_in_doubt(self, until_ms: int = 1_000) -> list[GrantId]:
        """What a record ends that says nothing."""
        return self.grants.appended_until(LANE, ACCOUNT, until_ms)

    def ended_by_grant(self, decision: str) -> list[GrantId]:
        """What a grant ends."""
        return self.grants.ended_by_grant(LANE, ACCOUNT, decision)

    def grant(self) -> str:
        """Opt in; the decision's id."""
        return self.decide(Decision.GRANTED)

    def revoke(self) -> str:
        """Opt out; the decision's id."""
        return self.decide(Decision.REVOKED)


def of(*decisions: str) -> list[GrantId]:
    """The grants that these decisions made."""
    return [grant_id(LANE, ACCOUNT, decision) for decision in decisions]


def test_a_revocation_ends_every_grant_before_it() -> None:
    """Also one that a racing writer left behind, and one that an earlier revocation ended."""
    ledger = Ledger()
    first, revoked, second, third = (
        ledger.grant(),
        ledger.revoke(),
        ledger.grant(),
        ledger.grant(),
    )
    last = ledger.revoke()
    assert ledger.ended_by_revocation(revoked) == of(first)
    assert ledger.ended_by_revocation(last) == of(first, second, third)


def test_a_revocation_that_is_come_to_late_spares_what_came_after_it() -> None:
    """Off, then on again, before the eraser came to it: the new grant stands."""
    ledger = Ledger()
    ended_nothing = ledger.revoke()
    first, revoked = ledger.grant(), ledger.revoke()
    ledger.grant()
    assert ledger.ended_by_revocation(ended_nothing) == []
    assert ledger.ended_by_revocation(revoked) == of(first)


def test_a_decision_that_the_ledger_does_not_have_ends_nothing() -> None:
    """The ledger is not up to date: what it is asked then is asked again later."""
    ledger = Ledger()
    known = ledger.grant()
    missing = new_upload_id(77, bytes(10))
    assert ledger.grants.has(LANE, ACCOUNT, known)
    assert not ledger.grants.has(LANE, ACCOUNT, missing)
    assert not ledger.grants.has(OTHER, ACCOUNT, known)
    assert ledger.ended_by_revocation(missing) == ledger.ended_by_grant(missing) == []


def test_in_doubt_all_is_over_that_was_there_then() -> None:
    """A grant that was made later is not what a record could have meant that says nothing."""
    ledger = Ledger()
    first, second, third = ledger.grant(), ledger.grant(), ledger.grant()
    assert ledger.ended_in_doubt(until_ms=2) == of(first, second)
    assert ledger.ended_in_doubt() == of(first, second, third)


def test_what_is_open_before_a_revocation_does_not_count_what_came_after() -> None:
    """A new grant, or a forged one, keeps nobody from being told that the old ones are gone."""
    ledger = Ledger()
    first, revoked = ledger.grant(), ledger.revoke()
    second = ledger.grant()

    def before(decision: str) -> list[GrantId] | None:
        return ledger.grants.open_before(LANE, ACCOUNT, decision)

    assert before(revoked) == of(first)
    assert ledger.grants.open(LANE, ACCOUNT) == of(first, second)
    ledger.erase(*of(first), topic=ERASURES)
    assert before(revoked) == []
    assert ledger.grants.is_erased(*of(first))
    assert not ledger.grants.is_erased(*of(second))


def test_nothing_is_said_of_a_revocation_that_the_ledger_does_not_show() -> None:
    """A ledger of before has neither the revocation nor the grants, which is not 'none open'."""
    ledger = Ledger()
    assert ledger.grants.open_before(LANE, ACCOUNT, new_upload_id(77, bytes(10))) is None


def test_a_void_grant_ends_those_before_it_and_itself() -> None:
    """The account is not opted in after it."""
    ledger = Ledger()
    first, void = ledger.grant(), ledger.grant()
    ledger.grant()
    assert ledger.ended_by_revocation(void) == of(first, void)


def test_an_erasure_spares_nothing_from_being_marked() -> None:
    """Only what is still open for its owner depends on it."""
    ledger = Ledger()
    first, second = ledger.grant(), ledger.grant()
    ledger.erase(*of(first), topic=ERASURES)
    revoked = ledger.revoke()
    assert ledger.ended_by_revocation(revoked) == of(first, second)
    assert ledger.grants.open(LANE, ACCOUNT) == of(second)


def test_an_erasure_in_the_ledger_is_not_believed() -> None:
    """Every lane can write one: it is a record, and no confirmation."""
    ledger = Ledger()
    first = ledger.grant()
    ledger.revoke()
    ledger.erase(*of(first), topic=LEDGER)
    assert ledger.grants.open(LANE, ACCOUNT) == of(first)


def test_a_grant_ends_those_before_a_revocation_that_was_not_seen() -> None:
    """Compaction may have taken the revocation away before the eraser came to it."""
    ledger = Ledger()
    first = ledger.grant()
    ledger.revoke()
    assert ledger.ended_by_grant(ledger.grant()) == of(first)


def test_a_grant_does_not_end_one_that_races_with_it() -> None:
    """Without a revocation between them nothing says that one of them is over."""
    ledger = Ledger()
    first, second = ledger.grant(), ledger.grant()
    assert ledger.ended_by_grant(first) == []
    assert ledger.ended_by_grant(second) == []


def test_a_revocation_after_the_grant_is_left_to_its_own_record() -> None:
    """The ledger is ahead of the consent topic: what is in force there stays until it says so."""
    ledger = Ledger()
    granted = ledger.grant()
    ledger.revoke()
    assert ledger.ended_by_grant(granted) == []


def test_entries_under_another_key_count_for_nobody() -> None:
    """A lane can not slip its own entries in among another's."""
    ledger = Ledger()
    ledger.decide(Decision.GRANTED, key=ledger_key(OTHER, ACCOUNT))
    assert ledger.ended_in_doubt() == []
    assert ledger.grants.appended_until(OTHER, ACCOUNT, 1_000) == []


def test_other_entries_change_nothing() -> None:
    """Findings stand in the same ledger."""
    ledger = Ledger()
    granted = ledger.grant()
    kind = FindingKind.CONSENT_UNREADABLE
    ledger.write(Finding(id=new_upload_id(9, bytes(10)), time=NOW, kind=kind, detail="x"))
    assert ledger.ended_in_doubt() == of(granted)
