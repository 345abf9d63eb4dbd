"""When copies in topics became worthless: known by the ends of all keys that open one."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.stages.erasure.topic_copies import TopicCopies
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.ledger import KeyDestroyed, KeyState
from erasestream.schemas.ids import Lane, new_upload_id
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import KEPT, results_of, uploads_for
from erasestream.topics.catalog.topic_names import LEDGER, ledger_of
from erasestream.topics.kafka.records import Partition, Record

SHOP, BULK = Lane("shop"), Lane("bulk")
TIMES = EpochTimes()
RECORDED = datetime(2026, 11, 30, 10, 30, tzinfo=UTC)
EPOCH = TIMES.number(RECORDED)
PURPOSES = (KEPT, uploads_for(SHOP), results_of(SHOP))


def ended(
    purpose: str,
    epoch: int,
    time: datetime | None = None,
    *,
    topic: str = LEDGER,
    state: KeyState = KeyState.UNRECOVERABLE,
) -> Record:
    """Return the record of a key's end; at its hour of the next day, unless a time is given."""
    entry = KeyDestroyed(
        id=new_upload_id(0, bytes(10)),
        time=time or TIMES.begins(epoch) + timedelta(days=1),
        purpose=purpose,
        epoch=epoch,
        public_key_sha256="ab" * 32,
        state=state,
    )
    wire = to_wire(entry, source="/test")
    return Record(Partition(topic, 0), 0, 0, b"", wire.headers, wire.value)


@pytest.fixture
def copies() -> TopicCopies:
    """Return the ends of all keys of the three hours before the last one."""
    found = TopicCopies(TIMES, {SHOP})
    for purpose in PURPOSES:
        for epoch in range(EPOCH - 3, EPOCH):
            found.apply(ended(purpose, epoch))
    return found


def test_the_last_key_counts(copies: TopicCopies) -> None:
    """It need not be that of the last hour."""
    late = TIMES.begins(EPOCH) + timedelta(days=3)
    for purpose in PURPOSES:
        assert copies.worthless(SHOP, RECORDED) is None
        copies.apply(ended(purpose, EPOCH))
    assert copies.worthless(SHOP, RECORDED) == TIMES.begins(EPOCH) + timedelta(days=1)
    other = TopicCopies(TIMES, {SHOP})
    for purpose in PURPOSES:
        other.apply(ended(purpose, EPOCH - 1, late))
        other.apply(ended(purpose, EPOCH))
        other.apply(ended(purpose, EPOCH, late + timedelta(days=1)))  # repeated
    assert other.worthless(SHOP, RECORDED) == late


def test_an_upload_of_the_next_hour_by_a_clock_that_is_ahead_counts(copies: TopicCopies) -> None:
    for purpose in PURPOSES:
        copies.apply(ended(purpose, EPOCH))
    at_its_end = RECORDED.replace(minute=58)
    assert copies.worthless(SHOP, at_its_end) is None
    for purpose in PURPOSES:
        copies.apply(ended(purpose, EPOCH + 1))
    assert copies.worthless(SHOP, at_its_end) == TIMES.begins(EPOCH + 1) + timedelta(days=1)


def test_a_gap_leaves_it_unknown_for_a_day(copies: TopicCopies) -> None:
    """The key may still be there."""
    for purpose in PURPOSES:
        for epoch in range(EPOCH + 1, EPOCH + 30):
            copies.apply(ended(purpose, epoch))
    assert copies.worthless(SHOP, RECORDED + timedelta(hours=20)) is None
    assert copies.worthless(SHOP, RECORDED + timedelta(hours=26))


def test_only_what_is_certain_counts(copies: TopicCopies) -> None:
    """Not a key that a copy of the vault opens, nor an entry of a lane, nor unsealed uploads."""
    for purpose in PURPOSES:
        copies.apply(ended(purpose, EPOCH, state=KeyState.UNREACHABLE))
        copies.apply(ended(purpose, EPOCH, topic=ledger_of(SHOP)))
    assert copies.worthless(SHOP, RECORDED) is None
    assert copies.is_awaited(SHOP, RECORDED, RECORDED + timedelta(hours=47))
    assert not copies.is_awaited(SHOP, RECORDED, RECORDED + timedelta(hours=48))
    for purpose in (uploads_for(BULK), results_of(BULK), KEPT):
        copies.apply(ended(purpose, EPOCH))
    assert copies.worthless(BULK, RECORDED) is None
    assert not copies.is_awaited(BULK, RECORDED, RECORDED)
