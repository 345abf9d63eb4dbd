"""Erased grants that a copy of the vault would still open, as `erasures.L` shows them."""

from datetime import UTC, datetime

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.ledger import GrantErased, KeyState
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.records import Record

NOW = datetime(2026, 5, 6, tzinfo=UTC)
LANE, ACCOUNT = Lane("shop"), AccountId("acct-1")
GRANT = GrantId("0b7e6a3c-0000-4000-8000-000000000001")
PARTITIONS = {erasures_of(LANE): 4}


def record(state: KeyState) -> Record:
    entry = GrantErased(
        id=new_upload_id(1, bytes(10)),
        time=NOW,
        lane=LANE,
        account=ACCOUNT,
        grant=GRANT,
        decision=GRANT,
        recorded=NOW,
        confirmed=NOW,
        objects=0,
        objects_root="0" * 64,
        keys=("1",),
        state=state,
    )
    at, key = place(erasures_of(LANE), ACCOUNT, PARTITIONS)
    wire = to_wire(entry, source="/eraser")
    return Record(at, 0, 0, key, wire.headers, wire.value)


def test_a_deleted_grant_is_recoverable_until_its_masters_are_destroyed() -> None:
    erasures = UnfinishedErasures(PARTITIONS)
    for _ in range(2):  # as by two erasers
        erasures.apply(record(KeyState.UNREACHABLE))
    (left,) = erasures.recoverable()
    assert (left.entry.grant, left.entry.keys) == (GRANT, ("1",))
    erasures.apply(record(KeyState.UNRECOVERABLE))
    assert erasures.recoverable() == []


def test_an_entry_elsewhere_counts_for_nothing() -> None:
    erasures = UnfinishedErasures(PARTITIONS)
    found = record(KeyState.UNREACHABLE)
    elsewhere = found.at._replace(number=(found.at.number + 1) % 4)
    erasures.apply(found._replace(at=elsewhere))
    assert erasures.recoverable() == []
