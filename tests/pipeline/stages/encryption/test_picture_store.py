"""Pictures in flight: bounded, and with an outcome only once they and their markers are seen."""

import threading
from collections.abc import Iterator
from typing import NamedTuple, cast

import pytest

from erasestream.pipeline.stages.encryption.picture_store import Outcome, Picture, PictureStore
from erasestream.schemas.errors import BucketAccessDenied, Unavailable
from erasestream.schemas.events.images import Retained
from erasestream.schemas.ids import GrantId, Lane
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.pipeline.stages.encryption.sink_harness import RecordingSink, picture

GRANT = GrantId("018f3c4e-0000-7000-8000-00000000000a")
OTHER = GrantId("018f3c4e-0000-7000-8000-00000000000b")


class Active(NamedTuple):
    """A grant in force."""

    grant: GrantId


class OneGrant:
    """A view in which one grant is in force, until it is revoked."""

    is_revoked = False

    def active_grant(self, *_: object) -> Active | None:
        return None if self.is_revoked else Active(GRANT)


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def grants() -> OneGrant:
    return OneGrant()


@pytest.fixture
def store(sink: RecordingSink, grants: OneGrant) -> Iterator[PictureStore]:
    stopping = threading.Event()
    view = cast("ConsentView", grants)
    store = PictureStore(view=view, sink=sink, stopping=stopping, max_parallel=2, max_bytes=100)
    yield store
    stopping.set()
    store.close()


def begin(store: PictureStore, offset: int, *, size: int = 10, grant: GrantId = GRANT) -> None:
    event: Retained = picture(Lane("shop"), grant, "0/1").model_copy(update={"data": bytes(size)})
    store.begin(Picture.of(Partition("retained", 0), offset, event), event)


def finished(store: PictureStore, count: int) -> list[tuple[int, Outcome]]:
    """Return the outcomes of the next pictures."""
    found = list[tuple[int, Outcome]]()

    def some() -> bool:
        for each in store.take_failed():
            store.begin(*each)
        found.extend((each.offset, outcome) for each, outcome in store.finished())
        return len(found) == count

    eventually("they are finished", some)
    return found


def test_pictures_in_flight_are_bounded_in_bytes(store: PictureStore, sink: RecordingSink) -> None:
    """One is admitted however large it is."""
    gate = threading.Event()
    sink.gates = [gate, gate]
    begin(store, 0, size=40)
    assert store.room_bytes == 60
    begin(store, 1, size=1000)
    assert store.room_bytes == 0
    gate.set()
    finished(store, 2)
    assert store.room_bytes == 100


def test_pictures_in_flight_are_bounded_in_number(store: PictureStore, sink: RecordingSink) -> None:
    gate = threading.Event()
    sink.gates = [gate] * 2
    for offset in range(4):
        assert store.room_bytes
        begin(store, offset)
    assert not store.room_bytes
    gate.set()
    assert len(finished(store, 4)) == 4


def test_a_later_picture_is_finished_while_an_earlier_one_waits(
    store: PictureStore, sink: RecordingSink
) -> None:
    gate = threading.Event()
    sink.gates = [gate]
    begin(store, 0)
    eventually("the first waits", lambda: not sink.gates)
    begin(store, 1)
    begin(store, 2, grant=OTHER)
    assert sorted(finished(store, 2)) == [(1, Outcome.STORED), (2, Outcome.DROPPED)]
    gate.set()
    assert finished(store, 1) == [(0, Outcome.STORED)]


def test_an_unavailable_bucket_is_tried_again_and_a_denial_ends_the_stage(
    store: PictureStore, sink: RecordingSink
) -> None:
    """A 403 never counts as stored."""
    sink.failure = Unavailable("on purpose")
    begin(store, 0)
    assert finished(store, 1) == [(0, Outcome.STORED)]
    sink.failure = BucketAccessDenied("on purpose")
    begin(store, 1)
    with pytest.raises(BucketAccessDenied):
        finished(store, 1)


def test_a_retried_picture_is_dropped_if_its_grant_ended_meanwhile(
    store: PictureStore, sink: RecordingSink, grants: OneGrant
) -> None:
    """Whether or not the eraser has marked the grant; until then its bytes take room."""
    sink.failure = Unavailable("on purpose")
    begin(store, 0)
    eventually("the attempt fails", lambda: not sink.failure)
    grants.is_revoked = True
    assert store.finished() == []
    assert store.room_bytes == 90
    assert finished(store, 1) == [(0, Outcome.DROPPED)]
    assert store.room_bytes == 100
    assert sink.grants == []
