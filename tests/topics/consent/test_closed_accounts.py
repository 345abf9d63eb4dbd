"""An account that its owner has closed: no grant counts any more."""

import pytest

from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.consent.closed_accounts import ClosedAccounts
from tests.topics.consent.ledger_harness import (
    ACCOUNT,
    LANE,
    LEDGER,
    PARTITIONS,
    PLACE,
    Ledger,
    grants_of,
)


def test_closing_ends_the_grants_after_it_too() -> None:
    """Each by its own record; an operator's or an owner's other decisions open nothing again."""
    ledger = Ledger()
    before = ledger.grant()
    closing = ledger.decide(Decision.REVOKED, closes=True)
    assert ledger.ended_by_revocation(closing) == grants_of(before)
    late = ledger.grant()
    assert ledger.ended_by_grant(late) == grants_of(before, late)
    ledger.revoke()
    later = ledger.grant()
    assert ledger.ended_by_grant(later) == grants_of(before, late, later)
    assert ledger.grants.revoked_until(LANE, ACCOUNT, 1_000) == grants_of(before, late, later)


def test_an_operator_closes_nothing() -> None:
    """An entry in an operator's name revokes; only the owner closes."""
    closed = ClosedAccounts(PARTITIONS)
    Ledger(closed.apply).decide(Decision.REVOKED, closes=True, channel=Channel.OPERATOR)
    assert ACCOUNT not in closed
    ledger = Ledger()
    ledger.decide(Decision.REVOKED, closes=True, channel=Channel.OPERATOR)
    assert ledger.ended_by_grant(ledger.grant()) == []


def test_a_grant_closes_nothing() -> None:
    ledger = Ledger()
    first = ledger.decide(Decision.GRANTED, closes=True)
    second = ledger.grant()
    assert ledger.ended_by_grant(first) == ledger.ended_by_grant(second) == []


@pytest.mark.parametrize(
    ("where", "is_closed"),
    [
        ({}, True),
        ({"number": (PLACE.at.number + 1) % PARTITIONS[LEDGER]}, False),
        ({"key": b"shop/acct-2"}, False),
    ],
)
def test_an_account_is_closed_by_an_entry_in_its_place(
    where: dict[str, object], is_closed: bool
) -> None:
    """And by no other; later decisions change nothing."""
    closed = ClosedAccounts(PARTITIONS)
    ledger = Ledger(closed.apply)
    ledger.grant()
    ledger.revoke()
    assert ACCOUNT not in closed
    ledger.decide(Decision.REVOKED, closes=True, **where)
    ledger.grant()
    ledger.revoke()
    assert (ACCOUNT in closed) is is_closed
    assert AccountId("acct-2") not in closed
