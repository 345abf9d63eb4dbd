"""Rows and pages: an eraser begins behind the last page, and knows as much as before it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.ledger import (
    MAX_MASTERS,
    ErasureEntry,
    ErasureProgress,
    GrantErased,
    KeyState,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.roles import ERASER
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent import ledger_pages
from erasestream.topics.consent.ledger_pages import PageWriter
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.ledger_rows import MAX_ROW_BYTES, pack_rows, row_of, split_rows
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.consent.unfinished_erasures import UnfinishedErasures
from erasestream.topics.kafka.records import Partition, Record
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    OWNER,
    ledger_partitions,
    write_as,
    writer,
)

LANE = Lane("shop")
NOW = datetime(2026, 11, 30, 1, 2, 3, 456789, tzinfo=UTC)
PARTITIONS = {ledger_of(LANE): 4, erasures_of(LANE): 4}
GRANT = GrantId("0b7e6a3c-0000-4000-8000-000000000001")


def record(entry: Event, offset: int = 0) -> Record:
    """Return a record of confirmed erasures, in its place."""
    at, key = place(erasures_of(LANE), ACCOUNT, PARTITIONS)
    wire = to_wire(entry, source="/eraser")
    return Record(at, offset, 0, key, wire.headers, wire.value)


def marked(lane: Lane = LANE, grant: GrantId = GRANT, *, is_old: bool = False) -> ErasureEntry:
    entry = ErasureEntry(
        id=new_upload_id(1, bytes(10)), time=NOW, lane=lane, account=ACCOUNT, grant=grant
    )
    added = {"decision": new_upload_id(2, bytes(10)), "recorded": NOW - timedelta(seconds=1)}
    return entry if is_old else entry.model_copy(update=added)


def erased(
    state: KeyState,
    keys: tuple[str, ...] = ("1",),
    lane: Lane = LANE,
    grant: GrantId = GRANT,
) -> GrantErased:
    return GrantErased(
        id=new_upload_id(3, bytes(10)),
        time=NOW,
        lane=lane,
        account=ACCOUNT,
        grant=grant,
        decision=new_upload_id(2, bytes(10)),
        recorded=NOW - timedelta(seconds=2),
        confirmed=NOW - timedelta(seconds=1),
        objects=2**40,
        objects_root="ab" * 32,
        keys=keys,
        state=state,
    )


@pytest.mark.parametrize("is_old", [False, True])
def test_an_open_erasure_is_the_entry_that_was_written(*, is_old: bool) -> None:
    """Also one of an earlier version, which names no decision."""
    entry, erasures = marked(is_old=is_old), UnfinishedErasures(PARTITIONS)
    erasures.apply(record(entry))
    (left,) = erasures.all()
    assert left.entry == entry


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("1",),
        ("kms-0123456789ab-1", "kms-0123456789ab-22"),
        tuple("0123456789abcdefghijk"),  # of a version that did not know `MAX_MASTERS`
    ],
)
def test_a_deleted_grant_is_the_entry_that_was_written(keys: tuple[str, ...]) -> None:
    """In far fewer bytes."""
    entry, erasures = erased(KeyState.UNREACHABLE, keys), UnfinishedErasures(PARTITIONS)
    erasures.apply(record(entry))
    (left,) = erasures.recoverable()
    assert (left.entry, left.keys) == (entry, keys)
    assert len(left.packed) < 200


def test_the_longest_rows_fit_into_a_page() -> None:
    """Of each entry, with the longest of all that it may name."""
    names = tuple(f"{n:a>255}" for n in range(MAX_MASTERS))
    longest = {"account": AccountId("a" * 64)}
    for entry in (erased(KeyState.UNREACHABLE, names), marked()):
        at, key = place(erasures_of(LANE), longest["account"], PARTITIONS)
        wire = to_wire(entry.model_copy(update=longest), source="/eraser")
        row = row_of(Record(at, 0, 0, key, wire.headers, wire.value), PARTITIONS)
        assert 100 < len(row) <= MAX_ROW_BYTES


def test_rows_are_split_as_they_were_packed() -> None:
    rows = [row_of(record(marked()), PARTITIONS), b"", b"x" * 1000]
    assert list(split_rows(pack_rows(rows))) == rows
    progress = ErasureProgress(
        id=GRANT, time=NOW, lane=LANE, account=ACCOUNT, grant=GRANT, deleted=1, left=1
    )
    assert row_of(record(progress), PARTITIONS) == b""
    elsewhere = record(marked())._replace(key=b"another")
    assert row_of(elsewhere, PARTITIONS) == b""


@pytest.fixture
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_pages, "PAGE", 3)


def pages_of(offsets: Sequence[int], first: int = 0) -> list[tuple[int, list[bytes]]]:
    """Return the pages that follow from records with these offsets."""
    found = list[tuple[int, list[bytes]]]()
    pages = PageWriter(
        lambda number, page: found.append((number, list(split_rows(page)))), first=first
    )
    for offset in offsets:
        pages.add(offset, str(offset).encode())
    return found


@pytest.mark.usefixtures("_short_pages")
def test_a_page_is_written_once_the_record_behind_it_is_read() -> None:
    assert pages_of(range(3)) == []
    assert pages_of(range(7)) == [(0, [b"0", b"1", b"2"]), (1, [b"3", b"4", b"5"])]
    assert pages_of(range(3, 7), first=3) == [(1, [b"3", b"4", b"5"])]


@pytest.mark.usefixtures("_short_pages")
@pytest.mark.parametrize(
    "offsets", [[0, 1, 2, 4, 5, 6, 7], [0, 1, 2, 2, 3, 4], [1, 2, 3, 4], [2, 1, 0, 3, 4]]
)
def test_offsets_that_cannot_be_true_are_on_no_page(offsets: list[int]) -> None:
    """Nor is what follows them."""
    assert pages_of(offsets) == []
    assert pages_of(range(1, 9), first=1) == []


class KeptPages:
    """Pages in memory."""

    def __init__(self) -> None:
        self.kept: dict[Partition, list[bytes]] = {}

    def read(self) -> Mapping[Partition, list[bytes]]:
        return self.kept

    def write(self, at: Partition, number: int, page: bytes) -> None:
        found = self.kept.setdefault(at, [])
        if number == len(found):
            found.append(page)
        assert found[number] == page  # as every other view writes it


class CountedView(LedgerView):
    """Counts the records that it reads from the brokers."""

    read = 0

    def _apply(self, record: Record) -> None:
        self.read += 1
        super()._apply(record)


@pytest.mark.usefixtures("_short_pages")
def test_the_next_view_begins_behind_the_last_page(kafka: KafkaFixture, lane: Lane) -> None:
    """It knows the same, whichever keys the pages have; records behind them are read."""
    partitions, pages = ledger_partitions(kafka, lane), KeptPages()
    grants = list[GrantId]()
    with closing(writer(kafka, lane)) as writes:
        for _ in range(3):
            granted = writes.grant(ACCOUNT, **OWNER).grant
            assert granted is not None
            grants.append(granted)
            last = writes.revoke(ACCOUNT, **OWNER).decision_id
    assert last is not None
    at, key = place(erasures_of(lane), AccountId(ACCOUNT), partitions)
    states = (KeyState.UNREACHABLE, KeyState.UNRECOVERABLE)
    entries: list[Event] = [marked(lane, grant) for grant in grants[:2]]
    entries += [erased(state, lane=lane, grant=grants[0]) for state in states]
    for entry in entries:
        write_as(kafka, ERASER, at, key, to_wire(entry, source="/eraser"))

    def known() -> tuple[int, object]:
        view = CountedView(
            connection=kafka.connection(ERASER),
            partitions=partitions,
            pages=pages,
            key_of=lambda key: bytes(reversed(key)),
        )
        with closing(view):
            assert view.catch_up(view.partitions, deadline_s=60) == set(view.partitions)
            left = [each.entry.grant for each in view.unfinished.all()]
            ended = view.grants.ended_by_revocation(lane, AccountId(ACCOUNT), last)
            complete = {each: view.complete_to(each) for each in view.partitions}
            recoverable = view.unfinished.recoverable()
        return view.read, (left, ended, recoverable, complete)

    read, expected = known()
    assert expected[:3] == ([grants[1]], [grants[2]], [])  # type: ignore[index]
    assert sum(map(len, pages.kept.values())) == 2
    read_again, found = known()
    assert found == expected
    assert read_again == read - 2 * 3
