"""Grants that a decision ends, derived from the ledger."""

from typing import Any

import pytest

from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import GrantId, new_upload_id
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.decision_rows import MANY
from erasestream.topics.consent.ledger_place import ledger_key
from tests.topics.consent.ledger_harness import (
    ACCOUNT,
    ERASURES,
    LANE,
    LEDGER,
    NOW,
    OTHER,
    PLACE,
    Ledger,
    grants_of,
)


def test_a_revocation_ends_every_grant_before_it() -> None:
    """Including one grants_of a racing writer, and one that an earlier revocation ended."""
    ledger = Ledger()
    first, revoked, second, third = (
        ledger.grant(),
        ledger.revoke(),
        ledger.grant(),
        ledger.grant(),
    )
    last = ledger.revoke()
    assert ledger.ended_by_revocation(revoked) == grants_of(first)
    assert ledger.ended_by_revocation(last) == grants_of(first, second, third)


def test_a_revocation_processed_late_spares_later_grants() -> None:
    ledger = Ledger()
    ended_nothing = ledger.revoke()
    first, revoked = ledger.grant(), ledger.revoke()
    ledger.grant()
    assert ledger.ended_by_revocation(ended_nothing) == []
    assert ledger.ended_by_revocation(revoked) == grants_of(first)


def test_a_decision_that_the_ledger_does_not_have_ends_nothing() -> None:
    """The ledger is not up to date; the eraser asks again later."""
    ledger = Ledger()
    known = ledger.grant()
    missing = new_upload_id(77, bytes(10))
    assert ledger.grants.has(LANE, ACCOUNT, known)
    assert not ledger.grants.has(LANE, ACCOUNT, missing)
    assert not ledger.grants.has(OTHER, ACCOUNT, known)
    assert ledger.ended_by_revocation(missing) == ledger.ended_by_grant(missing) == []


def test_grants_are_found_by_the_time_of_their_entries() -> None:
    ledger = Ledger()
    first, second, third = ledger.grant(), ledger.grant(), ledger.grant()
    assert ledger.appended_until(until_ms=2) == grants_of(first, second)
    assert ledger.appended_until() == grants_of(first, second, third)


def test_unerased_grants_before_a_revocation_exclude_later_ones() -> None:
    """A new grant, or a forged one, does not delay the confirmation."""
    ledger = Ledger()
    first, revoked = ledger.grant(), ledger.revoke()
    second = ledger.grant()

    def before(decision: str) -> list[GrantId] | None:
        return ledger.grants.unerased_before(LANE, ACCOUNT, decision)

    assert before(revoked) == grants_of(first)
    assert ledger.grants.unerased(LANE, ACCOUNT) == grants_of(first, second)
    ledger.erase(*grants_of(first), topic=ERASURES)
    assert before(revoked) == []
    assert ledger.grants.is_erased(*grants_of(first))
    assert not ledger.grants.is_erased(*grants_of(second))


def test_an_unknown_revocation_has_no_answer() -> None:
    """An older ledger has neither the revocation nor the grants, which is not the same as none."""
    ledger = Ledger()
    assert ledger.grants.unerased_before(LANE, ACCOUNT, new_upload_id(77, bytes(10))) is None


def test_erased_grants_are_not_returned() -> None:
    """Read back or acknowledged just now."""
    ledger = Ledger()
    first, second, third = ledger.grant(), ledger.grant(), ledger.grant()
    ledger.erase(*grants_of(first), topic=ERASURES)
    revoked = ledger.revoke()
    assert ledger.ended_by_revocation(revoked) == grants_of(second, third)
    assert ledger.grants.unerased(LANE, ACCOUNT) == grants_of(second, third)
    ledger.grants.confirm(*grants_of(second))
    assert ledger.ended_by_revocation(revoked) == grants_of(third)


def test_a_repeated_entry_moves_no_decision() -> None:
    """A grant is not before a revocation because the revocation was copied behind it."""
    ledger = Ledger()
    first, revoked = ledger.grant(), ledger.revoke()
    ledger.grant()
    ledger.repeat(revoked, Decision.REVOKED)
    ledger.repeat(first, Decision.REVOKED)
    assert ledger.ended_by_revocation(revoked) == grants_of(first)
    assert ledger.grants.revoked_until(LANE, ACCOUNT, 1_000) == grants_of(first)


def test_an_account_with_many_decisions_is_answered_as_any_other() -> None:
    """Its decisions are indexed, and those without an unerased grant are skipped."""
    ledger = Ledger()
    decisions = [(ledger.grant(), ledger.revoke()) for _ in range(MANY)]
    for granted, revoked in decisions:
        assert ledger.grants.has(LANE, ACCOUNT, granted)
        assert ledger.ended_by_grant(granted) == []
        assert ledger.ended_by_revocation(revoked) == grants_of(granted)
        ledger.grants.confirm(*grants_of(granted))
    missing = new_upload_id(7 * MANY, bytes(10))
    assert not ledger.grants.has(LANE, ACCOUNT, missing)
    last = ledger.grant()
    assert ledger.grants.unerased(LANE, ACCOUNT) == grants_of(last)
    assert ledger.grants.unerased_before(LANE, ACCOUNT, decisions[-1][1]) == []


def test_a_query_returns_no_more_grants_than_asked_for() -> None:
    """The first ones, and the next ones once those are erased."""
    ledger = Ledger()
    first, second = ledger.grant(), ledger.grant()
    revoked = ledger.revoke()

    def ended() -> list[GrantId]:
        return ledger.grants.ended_by_revocation(LANE, ACCOUNT, revoked, most=1)

    assert ended() == grants_of(first)
    ledger.grants.confirm(*grants_of(first))
    assert ended() == grants_of(second)
    ledger.grants.confirm(*grants_of(second))
    assert ended() == []


def test_an_erasure_in_the_ledger_is_ignored() -> None:
    """The lane's own service can write one."""
    ledger = Ledger()
    first = ledger.grant()
    ledger.revoke()
    ledger.erase(*grants_of(first), topic=LEDGER)
    assert ledger.grants.unerased(LANE, ACCOUNT) == grants_of(first)


def test_a_grant_ends_those_before_an_unseen_revocation() -> None:
    """The revocation may have been compacted before the eraser read it."""
    ledger = Ledger()
    first = ledger.grant()
    ledger.revoke()
    assert ledger.ended_by_grant(ledger.grant()) == grants_of(first)


def test_a_grant_does_not_end_a_concurrent_one() -> None:
    """Without a revocation between them both may be active."""
    ledger = Ledger()
    first, second = ledger.grant(), ledger.grant()
    assert ledger.ended_by_grant(first) == []
    assert ledger.ended_by_grant(second) == []


def test_a_revocation_after_the_grant_is_left_to_its_own_record() -> None:
    """The ledger is ahead grants_of the consent topic."""
    ledger = Ledger()
    granted = ledger.grant()
    ledger.revoke()
    assert ledger.ended_by_grant(granted) == []


ELSEWHERE: list[dict[str, Any]] = [
    *({"number": number} for number in range(4) if number != PLACE.at.number),
    {"key": ledger_key(OTHER, ACCOUNT)},
    {"key": ACCOUNT.encode()},
]
IN_ANOTHER_TOPIC: list[dict[str, Any]] = [
    {"topic": ledger_of(OTHER)},
    {"topic": ledger_of(OTHER), "number": PLACE.at.number, "key": PLACE.key},
    {"topic": ERASURES},
]


@pytest.mark.parametrize("where", ELSEWHERE + IN_ANOTHER_TOPIC)
def test_an_entry_elsewhere_is_ignored(where: dict[str, Any]) -> None:
    """In another partition, lane or topic, or under another key; read before the real one."""
    ledger = Ledger()
    granted = ledger.grant()
    ahead = new_upload_id(50, bytes(10))
    ledger.repeat(ahead, Decision.REVOKED, **where)
    later = ledger.grant()
    ledger.repeat(ahead, Decision.REVOKED)
    ledger.decide(Decision.GRANTED, **where)
    assert ledger.ended_by_revocation(ahead) == grants_of(granted, later)
    assert ledger.appended_until() == grants_of(granted, later)
    assert ledger.grants.appended_until(OTHER, ACCOUNT, 1_000) == []


@pytest.mark.parametrize("where", ELSEWHERE)
def test_an_erasure_elsewhere_is_ignored(where: dict[str, Any]) -> None:
    ledger = Ledger()
    (grant,) = grants_of(ledger.grant())
    ledger.erase(grant, topic=ERASURES, **where)
    ledger.erase(grant, topic=erasures_of(OTHER), key=PLACE.key)
    assert not ledger.grants.is_erased(grant)


def test_other_entries_change_nothing() -> None:
    ledger = Ledger()
    granted = ledger.grant()
    kind = FindingKind.CONSENT_UNREADABLE
    ledger.write(Finding(id=new_upload_id(9, bytes(10)), time=NOW, kind=kind, detail="x"))
    assert ledger.appended_until() == grants_of(granted)
