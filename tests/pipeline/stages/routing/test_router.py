"""What the router makes of one result: which records, with what in them.

Brokers and view are those of the state machine; the decisions themselves are judged there.
"""

from collections.abc import Iterable
from datetime import timedelta

import pytest

from erasestream.pipeline.stages.routing import router as module
from erasestream.schemas.codec.cloudevents import from_wire, to_wire, type_of
from erasestream.schemas.errors import Code, InvariantBroken, Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.images import Cutout, Failure, Part, Retained, Upload
from erasestream.schemas.events.ledger import Finding
from erasestream.schemas.ids import AccountId
from erasestream.topics.catalog.topic_names import LEDGER, RETAINED, ephemeral_of, uploads_of
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from tests.pipeline.stages.routing.join_harness import CATALOG, LANE, PARTITIONS, SKEW_MS, Brokers
from tests.pipeline.stages.routing.join_members import LocalView, Process

ANN = AccountId("ann")
PHOTO, CUTOUT = b"\xff\xd8\xff photo", b"\x89PNG\r\n\x1a\n cut-out"
LIMIT = timedelta(seconds=CATALOG.lanes[0].times.backlog_limit_s)


class RouterHarness:
    """One router, and what it is given."""

    def __init__(self) -> None:
        self.brokers = Brokers()
        self.process = Process(self.brokers, "first")
        self.process.assign(PARTITIONS)
        self.router = self.process.router

    def opt_in(self, account: AccountId = ANN) -> None:
        """So that what is uploaded from now on surely counts."""
        self.brokers.decide(account, Decision.GRANTED, late_ms=0)
        self.brokers.now_ms += 4 * SKEW_MS + 1
        self.process.view.catch_up(self.process.view.mark(), deadline_s=1)

    def upload(self, account: AccountId = ANN, content_type: str = "image/jpeg") -> Upload:
        """A photo, next in partition 0."""
        event = Upload(
            id=self.brokers.event_id(),
            time=self.brokers.time(),
            account=account,
            content_type=content_type,
            data=PHOTO,
        )
        log = self.brokers.uploads[0]
        log.append(self.brokers.record(Partition(uploads_of(LANE), 0), len(log), None, event))
        return event

    def result(self, upload: Upload, offset: int, *, failed: bool = False) -> Record:
        """Its result, as inference writes it."""
        common = {
            "id": upload.id,
            "time": self.brokers.time(),
            "account": upload.account,
            "position": Position(topic_id=self.brokers.topic_id, partition=0, offset=offset),
            "uploaded_at": upload.time,
        }
        event: Cutout | Failure
        if failed:
            event = Failure(**common, code="corrupt", sentence="Damaged.")
        else:
            event = Cutout(
                **common,
                content_type="image/webp",
                model="tiny",
                model_sha256="0" * 64,
                model_version="1",
                data=CUTOUT,
            )
        return self.brokers.record(PARTITIONS[0], offset, None, event)

    def routed(self, record: Record) -> list[Outgoing]:
        """What becomes of it."""
        return list(self.router.handle(record))


@pytest.fixture
def world() -> RouterHarness:
    """A new one."""
    return RouterHarness()


def kept_in(outgoing: Iterable[Outgoing]) -> dict[Part, Retained]:
    """The pictures for the sink."""
    events = [from_wire(Retained, o.headers, o.value) for o in outgoing if o.topic == RETAINED]
    parts = {event.part: event for event in events}
    assert len(parts) == len(events)
    return parts


def test_what_is_kept_is_delivered_too(world: RouterHarness) -> None:
    """The result as it came, in its partition; photo and cut-out with all that the sink asks."""
    world.opt_in()
    upload = world.upload()
    record = world.result(upload, 0)
    delivered, *others = world.routed(record)
    assert delivered == Outgoing(ephemeral_of(LANE), 0, None, record.headers, record.value)
    kept = kept_in(others)
    assert {part: event.data for part, event in kept.items()} == {
        Part.ORIGINAL: PHOTO,
        Part.CUTOUT: CUTOUT,
    }
    standing = world.process.view.active_grant(LANE, ANN)
    assert standing
    for event in kept.values():
        assert (event.id, event.lane, event.account) == (upload.id, LANE, ANN)
        assert (event.grant, event.mark) == (standing.grant, world.process.view.mark_of(LANE, ANN))
        assert (event.position.offset, event.uploaded_at) == (0, upload.time)
    assert {each.key for each in others} == {upload.id.encode()}


def test_what_an_image_is_says_the_image(world: RouterHarness) -> None:
    """The headers are what a stranger, or a decoder that he took over, wrote."""
    world.opt_in()
    kept = kept_in(world.routed(world.result(world.upload(content_type="image/webp"), 0)))
    types = {part: event.content_type for part, event in kept.items()}
    assert types == {Part.ORIGINAL: "image/jpeg", Part.CUTOUT: "image/png"}


def test_too_late_is_a_failed_result_without_pixels(world: RouterHarness) -> None:
    """In place of the cut-out, for the same upload; an opt-in keeps nothing of it."""
    world.opt_in()
    upload = world.upload()
    record = world.result(upload, 0)
    world.brokers.now_ms += int(LIMIT.total_seconds() * 1000) + 1
    (told,) = world.routed(record)
    failure = from_wire(Failure, told.headers, told.value)
    assert (told.topic, told.partition) == (ephemeral_of(LANE), 0)
    assert type_of(told.headers) is Failure
    assert (failure.code, failure.id, failure.account) == (Code.EXPIRED, upload.id, ANN)
    assert (failure.position.offset, failure.uploaded_at) == (0, upload.time)
    assert CUTOUT[8:] not in told.value
    assert world.router.counts["expired"] == 1


@pytest.mark.parametrize("failed", [False, True])
def test_without_a_grant_only_the_result_is_written(world: RouterHarness, failed: bool) -> None:
    """As it came."""
    record = world.result(world.upload(), 0, failed=failed)
    (delivered,) = world.routed(record)
    assert delivered == Outgoing(ephemeral_of(LANE), 0, None, record.headers, record.value)


def test_a_failed_result_keeps_no_photo(world: RouterHarness) -> None:
    """Whatever the consent."""
    world.opt_in()
    (delivered,) = world.routed(world.result(world.upload(), 0, failed=True))
    assert delivered.topic == ephemeral_of(LANE)


@pytest.mark.parametrize("account", [AccountId("bob"), None])
def test_without_its_own_photo_a_cutout_is_not_kept(
    world: RouterHarness, account: str | None
) -> None:
    """Another account's upload of the same id lies there, or nothing that can be read."""
    world.opt_in()
    upload = world.upload()
    (there,) = world.brokers.uploads[0]
    if account is None:
        world.brokers.uploads[0] = [there._replace(headers=[])]
    else:
        wire = to_wire(upload.model_copy(update={"account": account}), source="/world")
        world.brokers.uploads[0] = [there._replace(headers=wire.headers)]
    (delivered,) = world.routed(world.result(upload, 0))
    assert delivered.topic == ephemeral_of(LANE)
    assert world.router.counts["original_gone"] == world.router.counts["ephemeral"] == 1
    assert world.router.counts["retained"] == 0


def test_a_replay_becomes_nothing(world: RouterHarness) -> None:
    """And the mark that would be committed stays."""
    record = world.result(world.upload(), 0)
    assert len(world.routed(record)) == 1
    mark = world.router.offset_metadata(PARTITIONS[0])
    assert world.routed(record) == []
    assert world.router.offset_metadata(PARTITIONS[0]) == mark
    assert world.router.counts["replayed"] == 1


def test_uploads_that_were_never_seen_are_named_in_the_ledger(world: RouterHarness) -> None:
    """With the result after them, so that both are committed or neither."""
    uploads = [world.upload() for _ in range(4)]
    world.brokers.uploads_start[0] = 3
    finding, delivered = world.routed(world.result(uploads[3], 3))
    assert (finding.topic, finding.key) == (LEDGER, LANE.encode())
    detail = from_wire(Finding, finding.headers, finding.value).detail
    assert detail.startswith(f"3 uploads before {uploads_of(LANE)} ")
    assert delivered.topic == ephemeral_of(LANE)
    assert world.router.counts["purged"] == 3


def test_what_inference_can_not_have_written_stops_the_router(world: RouterHarness) -> None:
    """No result at all, or one of another partition."""
    record = world.result(world.upload(), 0)
    with pytest.raises(InvariantBroken):
        world.routed(record._replace(headers=[]))
    with pytest.raises(InvariantBroken, match="another partition"):
        world.routed(record._replace(at=PARTITIONS[1]))


def test_a_beginning_is_proven_by_an_ephemeral_topic_that_never_held_anything(
    world: RouterHarness,
) -> None:
    """Else what was routed could be routed again."""
    start = world.router.initial_offset(PARTITIONS[0])
    assert start
    assert start.metadata == f"1:{world.brokers.topic_id}:-1"
    world.upload()
    world.process.read(1)
    world.brokers.cutouts[0].append(world.result(world.upload(), 0))
    world.process.read(1)
    world.process.handle()
    world.process.commit()
    assert world.router.initial_offset(PARTITIONS[0]) is None


class AwayView(LocalView):
    """A view whose leader does not answer at first."""

    def __init__(self, brokers: Brokers) -> None:
        super().__init__(brokers)
        self.answers = [False, False, True, True]
        self.caught_up: list[Mark] = []

    def mark(self, *, timeout_s: float | None = None) -> Mark:
        """Perhaps."""
        if not self.answers.pop(0):
            raise Unavailable("a leader")
        return super().mark(timeout_s=timeout_s)

    def catch_up(self, mark: Mark, *, deadline_s: float) -> None:
        """Remember how far."""
        self.caught_up.append(mark)
        super().catch_up(mark, deadline_s=deadline_s)


def test_without_a_mark_nothing_is_decided(
    world: RouterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for until it comes; only then the view is caught up to it."""
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    view = AwayView(world.brokers)
    world.router._view = view
    assert not world.router.is_ready()
    world.brokers.decide(ANN, Decision.REVOKED, late_ms=0)
    world.router.wait_until_ready()
    (mark,) = view.caught_up
    assert sum(mark.values()) == 1
    assert world.router.is_ready()
