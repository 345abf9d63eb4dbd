"""Determine which grants a decision ends.  Pure.

The decision is taken from its record in `consent.L`, whose topic proves the lane.  The lane's
ledger only lists the grants that there were: their ids cannot be forged (`ids.grant_id`).

A record that the ledger does not have, or that cannot be read, was not written by our writer.
In doubt it ends all grants that the account had until then.
"""

from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import (
    HEARTBEAT_KEY,
    MAX_CLOCK_SKEW,
    ConsentDecision,
    Decision,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.records import Record


class EndedGrant(NamedTuple):
    """A grant that is no longer in force."""

    lane: Lane
    account: AccountId
    grant: GrantId


def account_of(record: Record) -> AccountId | None:
    """Return the account that a record is about, valid or not; None for a heartbeat."""
    key = record.key or b""
    return None if key == HEARTBEAT_KEY else AccountId(key.decode(errors="replace"))


def ended_grants(
    history: GrantHistory, record: Record, lane: Lane, account: AccountId
) -> list[GrantId] | None:
    """Return the grants that a record ends; None if the ledger does not have its decision."""
    decision = _decision(record)
    if decision is None:
        return ended_in_doubt(history, record, lane, account)
    if not history.has(lane, account, decision.id):
        return None
    if decision.decision is Decision.GRANTED:  # a void one, too: it refuses, and revokes nothing
        return history.ended_by_grant(lane, account, decision.id)
    return history.ended_by_revocation(lane, account, decision.id)


def ended_in_doubt(
    history: GrantHistory, record: Record, lane: Lane, account: AccountId
) -> list[GrantId]:
    """Return all grants that the account had when the record was appended.

    Two brokers' clocks stamped record and ledger.  A grant that the record itself makes is
    included: later revocations would not find it in the ledger.
    """
    until_ms = record.appended_ms + int(MAX_CLOCK_SKEW.total_seconds() * 1000)
    ended = history.appended_until(lane, account, until_ms)
    decision = _decision(record)
    return [*ended, decision.grant(lane)] if decision and _opts_in(decision, record) else ended


def _decision(record: Record) -> ConsentDecision | None:
    """Return the decision about the account that is the record's key; None if unreadable."""
    try:
        decision = from_wire(ConsentDecision, record.headers, record.value)
    except InvalidEvent:
        return None
    return decision if decision.account.encode() == record.key else None


def _opts_in(decision: ConsentDecision, record: Record) -> bool:
    is_void = decision.is_void(utc(record.appended_ms))
    return decision.decision is Decision.GRANTED and not is_void
