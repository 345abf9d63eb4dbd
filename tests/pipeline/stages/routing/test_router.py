"""The records that the router makes of one result, and their content.

Brokers and view are those of the state machine, which checks the decisions themselves.
"""

from dataclasses import replace

import pytest

from erasestream.schemas.codec.cloudevents import from_wire, to_wire, type_of
from erasestream.schemas.errors import Code, InvariantBroken, Unavailable
from erasestream.schemas.events.images import Failure, Part
from erasestream.schemas.events.ledger import Finding, UploadHeld
from erasestream.schemas.ids import AccountId, image_key
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.topic_names import LEDGER, ephemeral_of, held_of, uploads_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Outgoing
from tests.pipeline.stages.routing import join_members
from tests.pipeline.stages.routing.join_brokers import CATALOG, LANE, PARTITIONS
from tests.pipeline.stages.routing.router_in_memory import (
    ANN,
    CUTOUT,
    LIMIT,
    PHOTO,
    RouterHarness,
    retained_in,
)


@pytest.fixture
def harness() -> RouterHarness:
    return RouterHarness()


def test_a_retained_result_is_delivered_too(harness: RouterHarness) -> None:
    """The result unchanged, in its partition; photo and cut-out with all that the sink needs."""
    harness.opt_in()
    upload = harness.upload()
    record = harness.result(upload, 0)
    delivered, *others = harness.route(record)
    assert delivered == Outgoing(ephemeral_of(LANE), 0, None, record.headers, record.value)
    retained = retained_in(others)
    assert {part: event.data for part, event in retained.items()} == {
        Part.ORIGINAL: PHOTO,
        Part.CUTOUT: CUTOUT,
    }
    grant = harness.process.view.active_grant(LANE, ANN)
    assert grant
    for event in retained.values():
        assert (event.id, event.lane, event.account) == (upload.id, LANE, ANN)
        assert (event.grant, event.mark) == (grant.grant, harness.process.view.mark_of(LANE, ANN))
        assert (event.position.offset, event.uploaded_at) == (0, upload.time)
    assert {each.key for each in others} == {upload.id.encode()}


def test_a_retained_upload_is_counted_for_the_page_of_its_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the same transaction, without an image; one that is not retained is not counted."""
    lane = replace(CATALOG.lanes[0], gateway=True)
    monkeypatch.setattr(join_members, "CATALOG", Catalog.build((lane,)))
    harness = RouterHarness()
    (delivered,) = harness.route(harness.result(harness.upload(), 0))
    assert delivered.topic == ephemeral_of(LANE)
    harness.opt_in()
    upload = harness.upload()
    *_, counted = harness.route(harness.result(upload, 1))
    partitions = {held_of(LANE): Catalog.build((lane,))[held_of(LANE)].partitions}
    at, key = place(held_of(LANE), ANN, partitions)
    assert (counted.topic, counted.partition, counted.key) == (*at, key)
    event = from_wire(UploadHeld, counted.headers, counted.value)
    grant = harness.process.view.active_grant(LANE, ANN)
    assert grant
    assert (event.lane, event.account, event.grant) == (LANE, ANN, grant.grant)
    assert (event.position.offset, event.uploaded_at) == (1, upload.time)
    assert event.image == image_key(LANE, ANN, upload.id)
    assert upload.id not in str(counted)


def test_the_content_type_is_sniffed(harness: RouterHarness) -> None:
    """The headers are written by strangers, or by a decoder that they took over."""
    harness.opt_in()
    retained = retained_in(
        harness.route(harness.result(harness.upload(content_type="image/webp"), 0))
    )
    types = {part: event.content_type for part, event in retained.items()}
    assert types == {Part.ORIGINAL: "image/jpeg", Part.CUTOUT: "image/png"}


def test_an_expired_result_is_a_failure_without_pixels(harness: RouterHarness) -> None:
    """In place of the cut-out, for the same upload; nothing is retained despite the opt-in."""
    harness.opt_in()
    upload = harness.upload()
    record = harness.result(upload, 0)
    harness.brokers.now_ms += int(LIMIT.total_seconds() * 1000) + 1
    (outgoing,) = harness.route(record)
    failure = from_wire(Failure, outgoing.headers, outgoing.value)
    assert (outgoing.topic, outgoing.partition) == (ephemeral_of(LANE), 0)
    assert type_of(outgoing.headers) is Failure
    assert (failure.code, failure.id, failure.account) == (Code.EXPIRED, upload.id, ANN)
    assert (failure.position.offset, failure.uploaded_at) == (0, upload.time)
    assert CUTOUT[8:] not in outgoing.value
    assert harness.router.counts["expired"] == 1


@pytest.mark.parametrize("failed", [False, True])
def test_without_a_grant_only_the_result_is_written(harness: RouterHarness, failed: bool) -> None:
    record = harness.result(harness.upload(), 0, failed=failed)
    (delivered,) = harness.route(record)
    assert delivered == Outgoing(ephemeral_of(LANE), 0, None, record.headers, record.value)


def test_a_failed_result_retains_no_photo(harness: RouterHarness) -> None:
    harness.opt_in()
    (delivered,) = harness.route(harness.result(harness.upload(), 0, failed=True))
    assert delivered.topic == ephemeral_of(LANE)


@pytest.mark.parametrize("account", [AccountId("bob"), None])
def test_a_cutout_without_its_original_is_not_retained(
    harness: RouterHarness, account: str | None
) -> None:
    """Its position holds another account's upload of the same id, or an unreadable record."""
    harness.opt_in()
    upload = harness.upload()
    (there,) = harness.brokers.uploads[0]
    if account is None:
        harness.brokers.uploads[0] = [there._replace(headers=[])]
    else:
        wire = to_wire(upload.model_copy(update={"account": account}), source="/test")
        harness.brokers.uploads[0] = [there._replace(headers=wire.headers)]
    (delivered,) = harness.route(harness.result(upload, 0))
    assert delivered.topic == ephemeral_of(LANE)
    assert harness.router.counts["original_gone"] == harness.router.counts["ephemeral"] == 1
    assert harness.router.counts["retained"] == 0


def test_the_wish_of_an_upload_counts_without_that_of_its_result(harness: RouterHarness) -> None:
    """A worker of an earlier release does not pass it on."""
    harness.opt_in()
    record = harness.result(harness.upload(never_retain=True), 0)
    (delivered,) = harness.route(record)
    assert delivered == Outgoing(ephemeral_of(LANE), 0, None, record.headers, record.value)
    assert harness.router.counts["never_retained"] == harness.router.counts["ephemeral"] == 1
    assert harness.router.counts["retained"] == 0


def test_a_replay_is_dropped(harness: RouterHarness) -> None:
    """The mark stays."""
    record = harness.result(harness.upload(), 0)
    assert len(harness.route(record)) == 1
    mark = harness.router.offset_metadata(PARTITIONS[0])
    assert harness.route(record) == []
    assert harness.router.offset_metadata(PARTITIONS[0]) == mark
    assert harness.router.counts["replayed"] == 1


def test_purged_uploads_are_reported_in_the_ledger(harness: RouterHarness) -> None:
    """With the result after them, so that both are committed or neither."""
    uploads = [harness.upload() for _ in range(4)]
    harness.brokers.uploads_start[0] = 3
    finding, delivered = harness.route(harness.result(uploads[3], 3))
    assert (finding.topic, finding.key) == (LEDGER, LANE.encode())
    detail = from_wire(Finding, finding.headers, finding.value).detail
    assert detail.startswith(f"3 uploads before {uploads_of(LANE)} ")
    assert delivered.topic == ephemeral_of(LANE)
    assert harness.router.counts["purged"] == 3


def test_unreadable_results_change_nothing(harness: RouterHarness) -> None:
    """No result at all, or one of another partition: inference cannot have written it."""
    record = harness.result(harness.upload(), 0)
    mark = harness.router.offset_metadata(PARTITIONS[0])
    with pytest.raises(InvariantBroken):
        harness.route(record._replace(headers=[]))
    with pytest.raises(InvariantBroken, match="another partition"):
        harness.route(record._replace(at=PARTITIONS[1]))
    assert harness.router.offset_metadata(PARTITIONS[0]) == mark


def test_a_result_whose_original_is_unavailable_changes_nothing(
    harness: RouterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is decided again, and then as if for the first time."""
    harness.opt_in()
    record = harness.result(harness.upload(), 0)
    mark = harness.router.offset_metadata(PARTITIONS[0])

    def fail(*_: object) -> None:
        raise Unavailable("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(harness.brokers, "read", fail)
        with pytest.raises(Unavailable):
            harness.route(record)
    assert harness.router.offset_metadata(PARTITIONS[0]) == mark
    assert len(harness.route(record)) == 3


def test_an_initial_offset_needs_an_ephemeral_topic_that_was_always_empty(
    harness: RouterHarness,
) -> None:
    """Otherwise routed results could be routed again."""
    start = harness.router.initial_offset(PARTITIONS[0])
    assert start
    assert start.metadata == f"1:{harness.brokers.topic_id}:-1"
    harness.upload()
    harness.process.read(1)
    harness.brokers.cutouts[0].append(harness.result(harness.upload(), 0))
    harness.process.read(1)
    harness.process.handle()
    harness.process.commit()
    assert harness.router.initial_offset(PARTITIONS[0]) is None
