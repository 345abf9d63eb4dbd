"""The counts of retained uploads that an account page shows."""

from datetime import UTC, date, datetime

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.ledger import UploadErased, UploadErasureState, UploadHeld
from erasestream.schemas.ids import (
    AccountId,
    Lane,
    UploadId,
    grant_id,
    image_key,
    upload_id_of_position,
)
from erasestream.topics.consent.held_uploads import HeldCounts
from erasestream.topics.kafka.records import Partition, Record

LANE, ACCOUNT = Lane("shop"), AccountId("acct")
OLD, NEW = (grant_id(LANE, ACCOUNT, f"{n}") for n in range(2))
TOPIC_ID = "bTYs9Br5T5qhZMdsDXX9XA"


def record(partition: int, offset: int, day: int, **changes: object) -> Record:
    position = Position(TOPIC_ID, partition, offset)
    event = UploadHeld.model_validate(
        {
            "id": upload_id_of_position(*position),
            "time": datetime(2026, 11, 30, tzinfo=UTC),
            "lane": LANE,
            "account": ACCOUNT,
            "grant": NEW,
            "position": position,
            "uploaded_at": datetime(2026, 11, day, 23, 59, tzinfo=UTC),
            **changes,
        }
    )
    wire = to_wire(event, source="/router")
    return Record(Partition("held.shop", 0), 0, 0, b"shop/acct", wire.headers, wire.value)


def test_uploads_are_counted_by_grant_and_day_newest_first() -> None:
    counts = HeldCounts(LANE, ACCOUNT)
    for each in (record(0, 1, 3), record(1, 1, 4), record(0, 7, 4), record(0, 9, 3, grant=OLD)):
        counts.apply(each)
    assert list(counts.of(NEW).items()) == [(date(2026, 11, 4), 2), (date(2026, 11, 3), 1)]
    assert counts.of(OLD) == {date(2026, 11, 3): 1}
    assert counts.of(grant_id(LANE, ACCOUNT, "2")) == {}


def test_an_upload_that_was_routed_again_is_counted_once() -> None:
    """The transaction of the first time was aborted: its records are in the topic all the same."""
    counts = HeldCounts(LANE, ACCOUNT)
    for offset in (1, 2, 3, 1, 2, 3, 4):
        counts.apply(record(0, offset, 3))
    assert counts.of(NEW) == {date(2026, 11, 3): 4}
    renewed = Position("AAAAAAAAAAAAAAAAAAAAAA", 0, 0)
    counts.apply(record(0, 0, 3, position=renewed))
    assert counts.of(NEW) == {date(2026, 11, 3): 5}


def erased(upload: str, **changes: object) -> Record:
    event = UploadErased.model_validate(
        {
            "id": upload_id_of_position(TOPIC_ID, 0, 0),
            "time": datetime(2026, 11, 30, tzinfo=UTC),
            "lane": LANE,
            "account": ACCOUNT,
            "upload": upload,
            "request": upload_id_of_position(TOPIC_ID, 0, 0),
            "recorded": datetime(2026, 11, 30, tzinfo=UTC),
            "stored_as": "ab" * 32,
            "objects": 2,
            "objects_root": "ab" * 32,
            "state": UploadErasureState.CONFIRMED,
            **changes,
        }
    )
    wire = to_wire(event, source="/eraser")
    return Record(Partition("erasures.shop", 0), 0, 0, b"shop/acct", wire.headers, wire.value)


@pytest.mark.parametrize("is_erasure_first", [False, True])
def test_an_upload_that_was_erased_alone_does_not_count(*, is_erasure_first: bool) -> None:
    """Whichever is read first, under every grant, and once although both states are written."""
    counts = HeldCounts(LANE, ACCOUNT)

    def erase() -> None:
        for state in UploadErasureState:
            counts.apply_erasure(erased("gone", state=state))
        counts.apply_erasure(erased("kept", lane=Lane("bulk")))
        counts.apply_erasure(erased("kept", account=AccountId("other")))
        counts.apply_erasure(erased("unknown"))

    gone, kept = (image_key(LANE, ACCOUNT, UploadId(name)) for name in ("gone", "kept"))
    if is_erasure_first:
        erase()
    counts.apply(record(0, 1, 3, image=gone))
    counts.apply(record(0, 2, 4, image=gone, grant=OLD))
    counts.apply(record(0, 3, 4, image=kept))
    counts.apply(record(0, 4, 5))  # of an earlier version
    counts.apply(record(0, 5, 4, image=gone))
    if not is_erasure_first:
        erase()
    assert counts.of(NEW) == {date(2026, 11, 5): 1, date(2026, 11, 4): 1}
    assert counts.of(OLD) == {}


def test_records_of_others_and_unreadable_ones_are_ignored() -> None:
    counts = HeldCounts(LANE, ACCOUNT)
    counts.apply(record(0, 1, 3, lane=Lane("bulk")))
    counts.apply(record(0, 2, 3, account=AccountId("other")))
    counts.apply(record(0, 3, 3)._replace(value=b"?"))
    counts.apply_erasure(erased("any")._replace(value=b"?"))
    assert counts.of(NEW) == {}
