"""Either ephemeral or retained as well, by the owner's last decision, and nothing between."""

from collections import Counter
from collections.abc import Iterator

import pytest

from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import UploadId
from erasestream.topics.client.upload_producer import Receipt
from erasestream.topics.consent.writer import RecordedDecision
from tests.flow.byte_search import files_containing, sample_slices
from tests.flow.pictures import noise
from tests.flow.pipeline_harness import BULK, SHOP, PipelineHarness
from tests.flow.waiting import eventually


def counts_after(receipt: Receipt, grant: RecordedDecision) -> bool:
    """Whether the broker appended the upload surely after the grant."""
    return receipt.appended_at - grant.at > MAX_CLOCK_SKEW


def stored_parts(flow: PipelineHarness, upload: UploadId) -> Counter[Part]:
    """How often each part of an upload lies in the bucket."""
    return Counter(name.part for name in flow.stored() if name.upload_id == upload)


def upload_after(
    flow: PipelineHarness, account: str, grant: RecordedDecision, image: bytes | None = None
) -> Receipt:
    """Upload until one is surely after the grant; that one."""

    def one() -> Receipt | None:
        receipt = flow.upload(account, image=image)
        return receipt if counts_after(receipt, grant) else None

    return eventually("an upload after the grant", one, poll_s=0.3)


BOTH = {Part.ORIGINAL: 1, Part.CUTOUT: 1}


def test_not_opted_in_leaves_nothing(flow: PipelineHarness) -> None:
    """Without a decision the result is delivered, and nothing of it is kept anywhere."""
    images = [noise() for _ in range(3)]
    receipts = [flow.upload("never-asked", image=image) for image in images]
    cutouts = [flow.cutout(receipt.upload_id) for receipt in receipts]
    assert {cutout.account for cutout in cutouts} == {"never-asked"}
    ids = {receipt.upload_id for receipt in receipts}
    assert ids.isdisjoint(flow.in_retained())
    flow.wait_until_drained()
    assert ids.isdisjoint(name.upload_id for name in flow.stored())
    needles = [
        piece for data in (*images, *(c.data for c in cutouts)) for piece in sample_slices(data)
    ]
    names = [b"never-asked", *(upload.encode() for upload in ids)]
    assert files_containing(flow.bucket_data, [*needles, *names]) == []
    # The search finds what is there: these bytes do lie in the brokers' topics for their hours.
    logs = files_containing(flow.stack.broker.data, needles, "*.log")
    assert {path.parent.name.partition(".")[0] for path in logs} == {
        "uploads", "cutouts", "ephemeral",
    }  # fmt: skip


def test_opted_in_is_kept_encrypted(flow: PipelineHarness) -> None:
    """An upload after the grant is kept: two objects, which open to what came and what went."""
    grant = flow.grant("opted-in")
    image = noise()
    receipt = upload_after(flow, "opted-in", grant, image)
    cutout = flow.cutout(receipt.upload_id)
    flow.wait_until_drained()
    assert stored_parts(flow, receipt.upload_id) == BOTH
    reader = flow.reader()
    opened = {
        found.part: (found.grant, reader.open(found.name))
        for found in reader.list()
        if found.upload_id == receipt.upload_id
    }
    assert {part: picture.plaintext for part, (_, picture) in opened.items()} == {
        Part.ORIGINAL: image,
        Part.CUTOUT: cutout.data,
    }
    assert opened[Part.ORIGINAL][1].content_type == "image/png"
    assert {given for given, _ in opened.values()} == {grant.grant}
    needles = [piece for data in (image, cutout.data) for piece in sample_slices(data)]
    assert files_containing(flow.bucket_data, [*needles, b"opted-in"]) == []


def test_consent_decides_per_upload(flow: PipelineHarness) -> None:
    """What came before a grant, within the skew of clocks, or after a revocation is not kept."""
    account = "changes-its-mind"
    expected: dict[UploadId, bool] = {}
    expected[flow.upload(account).upload_id] = False
    for _ in range(2):
        grant = flow.grant(account)
        assert grant.written
        while True:
            receipt = flow.upload(account)
            expected[receipt.upload_id] = counts_after(receipt, grant)
            flow.cutout(receipt.upload_id)  # is decided before the next decision is made
            if expected[receipt.upload_id]:
                break
        flow.revoke(account)
        expected[flow.upload(account).upload_id] = False
    for upload in expected:
        flow.cutout(upload)
    kept = Counter(flow.in_retained())
    assert {upload: kept[upload] == 2 for upload in expected} == expected
    assert {kept[upload] for upload in expected} == {0, 2}


def test_kept_while_the_grant_stands(flow: PipelineHarness) -> None:
    """With a grant that goes on standing, exactly what was uploaded after it lies in the bucket."""
    account = "stays"
    before = flow.upload(account)
    grant = flow.grant(account)
    within = flow.upload(account)
    after = upload_after(flow, account, grant)
    expected = {
        before.upload_id: {},
        within.upload_id: BOTH if counts_after(within, grant) else {},
        after.upload_id: BOTH,
    }
    for upload in expected:
        flow.cutout(upload)
    flow.wait_until_drained()
    assert {upload: stored_parts(flow, upload) for upload in expected} == expected


def test_grant_of_one_lane_is_none_in_another(flow: PipelineHarness) -> None:
    """The same account id in another lane is another account, and has not opted in."""
    grant = flow.grant("two-lanes", lane=SHOP)
    inside = upload_after(flow, "two-lanes", grant)
    outside = flow.upload("two-lanes", lane=BULK)
    assert counts_after(outside, grant)
    flow.cutout(inside.upload_id)
    flow.cutout(outside.upload_id, BULK)
    kept = flow.in_retained()
    assert inside.upload_id in kept
    assert outside.upload_id not in kept


@pytest.fixture
def without_sink(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    """The pipeline while its sink is stopped."""
    flow.stack.stop_stage("sink")
    try:
        yield flow
    finally:
        flow.start_stages(["sink"])


def test_revoked_while_it_waits(without_sink: PipelineHarness) -> None:
    """What waits for the sink when the owner revokes is never stored."""
    flow = without_sink
    grant = flow.grant("revokes-in-time")
    receipt = upload_after(flow, "revokes-in-time", grant)
    other = upload_after(flow, "stays-in", flow.grant("stays-in"))
    for upload in (receipt.upload_id, other.upload_id):
        flow.cutout(upload)
        assert flow.in_retained().count(upload) == 2
    flow.revoke("revokes-in-time")
    flow.start_stages(["sink"])
    flow.wait_until_drained()
    assert stored_parts(flow, receipt.upload_id) == {}
    assert stored_parts(flow, other.upload_id) == BOTH
