"""The steps of an erasure as an account page shows them."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel, Decision
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    ErasureProgress,
    GrantErased,
    KeyState,
)
from erasestream.schemas.events.receipts import Receipts, Subject
from erasestream.schemas.ids import AccountId, Lane, grant_id, new_upload_id
from erasestream.topics.consent.account_erasures import ErasureState, ErasureStates
from erasestream.topics.kafka.records import Partition, Record

LANE, ACCOUNT = Lane("shop"), AccountId("acct")
START = datetime(2026, 11, 30, tzinfo=UTC)
DECISION = new_upload_id(1, bytes(10))
GRANT = grant_id(LANE, ACCOUNT, DECISION)
RECEIPTS = Receipts(bytes(32))
OF_GRANT = {"lane": LANE, "account": ACCOUNT, "grant": GRANT}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(event: Event, appended: datetime = START) -> Record:
    wire = to_wire(event, source="/test")
    appended_ms = round(appended.timestamp() * 1000)
    return Record(Partition("any", 0), 0, appended_ms, b"key", wire.headers, wire.value)


def decided(
    decision: Decision,
    seconds: float,
    *,
    lane: Lane = LANE,
    channel: Channel = Channel.LIBRARY,
    closes: Literal[True] | None = None,
) -> Record:
    entry = DecisionEntry(
        id=DECISION if decision is Decision.GRANTED else new_upload_id(2, bytes(10)),
        time=at(seconds),
        lane=lane,
        account=ACCOUNT,
        decision=decision,
        actor="owner",
        channel=channel,
        closes=closes,
    )
    return record(entry, at(seconds))


def entry_id() -> str:
    return new_upload_id(3, bytes(10))


def erased(seconds: float, state: KeyState) -> Record:
    return record(
        GrantErased(
            id=entry_id(),
            time=at(seconds),
            decision=DECISION,
            recorded=at(2),
            confirmed=at(3),
            objects=10,
            objects_root="ab" * 32,
            keys=("1",),
            state=state,
            **OF_GRANT,
        )
    )


def progress(seconds: float, deleted: int, left: int) -> Record:
    entry = ErasureProgress(id=entry_id(), time=at(seconds), deleted=deleted, left=left, **OF_GRANT)
    return record(entry)


def test_an_erasure_goes_through_its_steps() -> None:
    """A repeated entry changes nothing, and a report that comes late does not either."""
    states = ErasureStates(LANE, ACCOUNT, RECEIPTS)
    states.apply_decision(decided(Decision.GRANTED, 1))
    assert states.all() == []
    states.apply_decision(decided(Decision.REVOKED, 2))
    shown = ErasureState(GRANT, at(2))
    assert states.all() == [shown]
    marked = ErasureEntry(
        id=entry_id(), time=at(3), decision=entry_id(), recorded=at(2), **OF_GRANT
    )
    for _ in range(2):
        states.apply_erasure(record(marked))
        shown = shown._replace(confirmed=at(3))
        assert states.all() == [shown]
    states.apply_erasure(progress(4, 1, 8))
    shown = shown._replace(keys_deleted=at(4), objects=9, objects_left=8)
    assert states.all() == [shown]
    states.apply_erasure(progress(9, 5, 4))
    shown = shown._replace(objects_left=4)
    assert states.all() == [shown]
    states.apply_erasure(erased(28, KeyState.UNREACHABLE))
    states.apply_erasure(erased(29, KeyState.UNREACHABLE))
    states.apply_erasure(progress(27, 9, 0))
    receipt = RECEIPTS.id("erasure", Subject(LANE, ACCOUNT, GRANT))
    shown = shown._replace(gone=at(28), objects=10, objects_left=0, receipt=receipt)
    assert states.all() == [shown]
    states.apply_erasure(erased(99, KeyState.UNRECOVERABLE))
    assert states.all() == [shown._replace(unrecoverable=at(99))]


def test_an_operator_ends_grants_by_their_time() -> None:
    """The entry that the eraser writes of it has no time that counts."""
    states = ErasureStates(LANE, ACCOUNT)
    states.apply_decision(decided(Decision.GRANTED, 1))
    states.apply_decision(decided(Decision.REVOKED, 9, channel=Channel.OPERATOR))
    assert states.all() == []
    skew_s = MAX_CLOCK_SKEW.total_seconds()
    revocation = decided(Decision.REVOKED, 0.9 - skew_s)
    states.apply_revocation(revocation)
    assert states.all() == []
    states.apply_revocation(decided(Decision.REVOKED, 1 - skew_s))
    assert states.all() == [ErasureState(GRANT, at(1 - skew_s))]


def test_entries_of_others_and_grants_after_a_revocation_are_not_shown() -> None:
    states = ErasureStates(LANE, ACCOUNT)
    states.apply_decision(decided(Decision.REVOKED, 1))
    states.apply_decision(decided(Decision.GRANTED, 2))
    states.apply_decision(decided(Decision.REVOKED, 3, lane=Lane("other")))
    states.apply_erasure(progress(4, 1, 8))
    states.apply_erasure(erased(5, KeyState.UNREACHABLE))
    assert states.all() == []


def test_a_grant_after_the_closing_of_the_account_ends_at_once() -> None:
    states = ErasureStates(LANE, ACCOUNT)
    states.apply_decision(decided(Decision.REVOKED, 1, closes=True))
    states.apply_decision(decided(Decision.GRANTED, 2))
    assert states.all() == [ErasureState(GRANT, at(2))]
