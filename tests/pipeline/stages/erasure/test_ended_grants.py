"""Each kind of record ends the grants that the table in `ended_grants.py` lists, and no others."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.stages.erasure.ended_grants import (
    MAX_CLOCK_SKEW_MS,
    Content,
    DecisionRecord,
    ended_grants,
)
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.events.consent import (
    GRANT_WINDOW,
    HEARTBEAT_KEY,
    Channel,
    ConsentDecision,
    Decision,
)
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, new_upload_id
from erasestream.topics.catalog.topic_names import consent_of, ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.records import Partition, Record

LANE, ACCOUNT = Lane("shop"), AccountId("acct")
PARTITIONS = {ledger_of(LANE): 2}
AT = Partition(consent_of(LANE), 0)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
GRANTED, REVOKED = Decision.GRANTED, Decision.REVOKED
UNREADABLE = Wire(headers=[], value=b"?")
MINUTE_MS = 60_000


def now_ms(later_ms: int = 0) -> int:
    return int(NOW.timestamp() * 1000) + later_ms


class History:
    """A ledger of one account, and records about it; `grants` is the state behind the view."""

    def __init__(self) -> None:
        self.grants = GrantHistory(PARTITIONS)
        self._count = 0

    def decision(self, decision: Decision) -> ConsentDecision:
        self._count += 1
        return ConsentDecision(
            id=new_upload_id(self._count, bytes(10)),
            time=NOW,
            account=ACCOUNT,
            decision=decision,
            actor="owner",
            channel=Channel.LIBRARY,
        )

    def listed(self, decision: Decision, *, later_ms: int = 0) -> ConsentDecision:
        """Return a decision that the ledger has, appended so much after now."""
        made = self.decision(decision)
        wire = to_wire(DecisionEntry(lane=LANE, **made.model_dump()), source="/test")
        at, key = place(ledger_of(LANE), ACCOUNT, PARTITIONS)
        record = Record(at, self._count, now_ms(later_ms), key, wire.headers, wire.value)
        self.grants.apply(record)
        return made

    def ended_by(
        self,
        wire: Wire | ConsentDecision,
        *,
        later_ms: int = 0,
        is_unlisted: bool = False,
        most: int = 100,
    ) -> list[GrantId] | None:
        """Return the grants that a record ends, appended so much after now."""
        if isinstance(wire, ConsentDecision):
            wire = to_wire(wire, source="/test")
        record = Record(AT, 0, now_ms(later_ms), ACCOUNT.encode(), wire.headers, wire.value)
        decision = DecisionRecord.of(record)
        assert decision is not None
        ended = ended_grants(self.grants, decision, most=most, is_unlisted=is_unlisted)
        return None if ended is None else [each.grant for each in ended]


@pytest.fixture
def history() -> History:
    return History()


def grants_of(*decisions: ConsentDecision) -> list[GrantId]:
    return [grant_id(LANE, ACCOUNT, each.id) for each in decisions]


def test_a_listed_revocation_ends_all_grants_before_it(history: History) -> None:
    first, second = history.listed(GRANTED), history.listed(GRANTED)
    revoked = history.listed(REVOKED)
    history.listed(GRANTED)
    assert history.ended_by(revoked) == grants_of(first, second)
    assert history.ended_by(revoked, most=1) == grants_of(first)


def test_a_decision_without_an_entry_waits_until_that_is_proven(history: History) -> None:
    history.listed(GRANTED)
    assert history.ended_by(history.decision(REVOKED)) is None
    assert history.ended_by(history.decision(GRANTED)) is None


def test_an_unlisted_revocation_ends_the_grants_listed_until_then(history: History) -> None:
    """By the brokers' clocks, of which either may be behind."""
    first = history.listed(GRANTED)
    second = history.listed(GRANTED, later_ms=MAX_CLOCK_SKEW_MS)
    history.listed(GRANTED, later_ms=MAX_CLOCK_SKEW_MS + 1)
    revoked = history.decision(REVOKED)
    assert history.ended_by(revoked, is_unlisted=True) == grants_of(first, second)


def test_an_unlisted_grant_ends_itself_alone(history: History) -> None:
    """A lane that writes it ends no grant of an owner."""
    history.listed(GRANTED)
    unlisted = history.decision(GRANTED)
    assert history.ended_by(unlisted, is_unlisted=True) == grants_of(unlisted)
    history.grants.confirm(*grants_of(unlisted))
    assert history.ended_by(unlisted, is_unlisted=True) == []


@pytest.mark.parametrize("late", [GRANT_WINDOW + timedelta(milliseconds=1)])
def test_a_void_grant_ends_nothing(history: History, late: timedelta) -> None:
    """Listed or not: it refuses, until the owner decides again."""
    history.listed(GRANTED)
    later_ms = int(late.total_seconds() * 1000)
    for void in (history.listed(GRANTED), history.decision(GRANTED)):
        for is_unlisted in (False, True):
            assert history.ended_by(void, later_ms=later_ms, is_unlisted=is_unlisted) == []


def test_an_unreadable_record_ends_nothing(history: History) -> None:
    """It refuses, and may be anything; so may one about another account than its key's."""
    history.listed(GRANTED)
    stranger = history.decision(REVOKED).model_copy(update={"account": AccountId("other")})
    for wire in (UNREADABLE, to_wire(stranger, source="/test")):
        assert history.ended_by(wire, is_unlisted=True) == []


def test_each_record_ends_the_grants_before_a_revocation_that_it_may_have_replaced(
    history: History,
) -> None:
    """Compaction removes a record that a later one of its account follows."""
    first = history.listed(GRANTED)
    history.listed(REVOKED)
    second = history.listed(GRANTED)
    unlisted = history.decision(GRANTED)
    assert history.ended_by(second) == grants_of(first)
    assert history.ended_by(UNREADABLE) == grants_of(first)
    assert history.ended_by(unlisted, is_unlisted=True) == grants_of(unlisted, first)
    assert history.ended_by(unlisted, later_ms=MINUTE_MS) == grants_of(first)


def test_a_revocation_after_a_record_is_not_one_that_it_replaced(history: History) -> None:
    history.listed(GRANTED)
    history.listed(REVOKED, later_ms=MINUTE_MS)
    assert history.ended_by(UNREADABLE) == []


@pytest.mark.parametrize("key", [None, b"", HEARTBEAT_KEY, b"no account", b"\xff", b"x" * 1_000])
def test_a_record_of_no_account_is_no_decision(key: bytes | None) -> None:
    assert DecisionRecord.of(Record(AT, 0, 0, key, [], b"")) is None


def test_a_decision_keeps_nothing_of_a_large_record() -> None:
    """Thousands of them wait in memory."""
    decision = DecisionRecord.of(Record(AT, 0, 7, b"acct", [], bytes(1_000_000)))
    assert decision == DecisionRecord(LANE, ACCOUNT, 7, Content.NEITHER)
