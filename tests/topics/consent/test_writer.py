"""Owners' decisions, written and read on a real broker."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.schemas.errors import Code, InvalidEvent, Unavailable
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.roles import OPERATOR, LaneRole, lane_role
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.writer import ConsentWriter
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import operator


def writer(kafka: KafkaFixture, lane: Lane) -> ConsentWriter:
    """Open a writer as the lane's account service."""
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    return ConsentWriter(connection=connection, lane=lane)


def test_accounts_are_not_opted_in_by_default(kafka: KafkaFixture, lane: Lane) -> None:
    """No grant and no history."""
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct-1") is None
    assert reader.history("acct-1") == []


def test_decisions_are_in_force_and_in_the_history(kafka: KafkaFixture, lane: Lane) -> None:
    """A grant, its repetition, and a revocation, as an operator sees them."""
    writes = writer(kafka, lane)
    granted = writes.grant("acct-1", actor="owner", channel=Channel.ACCOUNT_PAGE)
    again = writes.grant("acct-1", actor="owner", channel=Channel.ACCOUNT_PAGE)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    active = reader.active_grant("acct-1")
    assert granted.written
    assert not again.written
    assert active
    assert active.grant == granted.grant == again.grant

    operator(kafka, lane).revoke("acct-1", actor="operator:ann", channel=Channel.OPERATOR)

    assert reader.active_grant("acct-1") is None
    assert reader.active_grant("acct-2") is None
    history = [(e.decision, e.actor, e.channel) for e in reader.history("acct-1")]
    assert history == [
        (Decision.GRANTED, "owner", Channel.ACCOUNT_PAGE),
        (Decision.REVOKED, "operator:ann", Channel.OPERATOR),
    ]


def test_a_new_grant_is_another_grant(kafka: KafkaFixture, lane: Lane) -> None:
    """Granting after a revocation does not restore the old grant."""
    writes = writer(kafka, lane)
    first = writes.grant("acct-1", actor="owner", channel=Channel.LIBRARY)
    writes.revoke("acct-1", actor="owner", channel=Channel.LIBRARY)
    second = writes.grant("acct-1", actor="owner", channel=Channel.LIBRARY)
    assert first.grant != second.grant


def test_a_grant_that_is_appended_too_late_raises(kafka: KafkaFixture, lane: Lane) -> None:
    """By a clock that is a minute off it would be void.

    The append time of the ledger entry shows it; no state is written that might count later.

    """
    off = datetime.now(UTC) - timedelta(minutes=1)
    late = ConsentWriter(
        connection=kafka.connection(lane_role(lane, LaneRole.ACCOUNT)),
        lane=lane,
        now=lambda: off,
    )
    with pytest.raises(Unavailable, match="too late"):
        late.grant("acct-1", actor="owner", channel=Channel.LIBRARY)
    reader = ConsentReader(connection=kafka.connection(OPERATOR), lane=lane)
    assert reader.active_grant("acct-1") is None
    assert set(reader.end_mark(AccountId("acct-1")).values()) == {0}


@pytest.mark.parametrize("account", ["", "a b", "_invalid", "x" * 65])
def test_invalid_accounts_are_refused_before_anything_is_written(
    kafka: KafkaFixture, lane: Lane, account: str
) -> None:
    with pytest.raises(InvalidEvent) as refused:
        writer(kafka, lane).grant(account, actor="owner", channel=Channel.LIBRARY)
    assert refused.value.code is Code.INVALID_ACCOUNT
