"""An upload is ephemeral only, or retained as well, by the owner's last decision."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.consent.writer import RecordedDecision
from tests.flow.byte_search import files_containing, sample_slices
from tests.flow.pictures import noise, photo
from tests.flow.pipeline_harness import BULK, SHOP, PipelineHarness
from tests.flow.upload_batch import counts_after, upload_after
from tests.flow.waiting import eventually


def stored_parts(flow: PipelineHarness, upload: UploadId) -> Counter[Part]:
    """Count the objects of each part of an upload in the bucket."""
    return Counter(name.part for name in flow.stored() if name.upload_id == upload)


BOTH = {Part.ORIGINAL: 1, Part.CUTOUT: 1}


def test_not_opted_in_leaves_nothing(flow: PipelineHarness) -> None:
    """Without a decision, the result is delivered and nothing is retained anywhere."""
    images = [noise() for _ in range(3)]
    receipts = [flow.upload("never-asked", lane=BULK, image=image) for image in images]
    cutouts = [flow.cutout(receipt.upload_id, BULK) for receipt in receipts]
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
    # The search works: it finds the values of the topics, which keep them for hours.
    topics = (uploads_of(BULK), cutouts_of(BULK), ephemeral_of(BULK))
    values = [
        record.value
        for topic in topics
        for record in flow.records(topic)
        if UploadId(dict(record.headers)["ce_id"].decode()) in ids
    ]
    pieces = [piece for value in values for piece in sample_slices(value)]
    logs = files_containing(flow.stack.broker.data, pieces, "*.log")
    assert {path.parent.name.rpartition("-")[0] for path in logs} == {*topics}


def test_opted_in_is_retained_encrypted(flow: PipelineHarness) -> None:
    """An upload after the grant has two objects, which decrypt to the upload and the cut-out."""
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
    """An upload before a grant, within the clock skew, or after a revocation is not retained."""
    account = "changes-its-mind"
    expected: dict[UploadId, bool] = {}
    expected[flow.upload(account).upload_id] = False

    def upload_and_route(grant: RecordedDecision) -> bool:
        """Upload, wait for the result, and return whether the upload is to be retained."""
        receipt = flow.upload(account)
        expected[receipt.upload_id] = counts_after(receipt, grant)
        flow.cutout(receipt.upload_id)  # routed before the next decision is recorded
        return expected[receipt.upload_id]

    for _ in range(2):
        grant = flow.grant(account)
        assert grant.written
        eventually("an upload after the grant", partial(upload_and_route, grant), poll_s=0)
        flow.revoke(account)
        expected[flow.upload(account).upload_id] = False
    for upload in expected:
        flow.cutout(upload)
    retained = Counter(flow.in_retained())
    assert {upload: retained[upload] == 2 for upload in expected} == expected
    assert {retained[upload] for upload in expected} == {0, 2}


def test_stored_while_the_grant_is_in_force(flow: PipelineHarness) -> None:
    """While a grant stays in force, exactly the uploads after it are in the bucket."""
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


def test_grant_applies_to_its_own_lane_only(flow: PipelineHarness) -> None:
    """The same id in another lane is a different account, which has not opted in."""
    grant = flow.grant("two-lanes", lane=SHOP)
    inside = upload_after(flow, "two-lanes", grant)
    outside = flow.upload("two-lanes", lane=BULK)
    assert counts_after(outside, grant)
    flow.cutout(inside.upload_id)
    flow.cutout(outside.upload_id, BULK)
    retained = flow.in_retained()
    assert inside.upload_id in retained
    assert outside.upload_id not in retained


def test_what_is_never_to_be_retained_is_not(flow: PipelineHarness) -> None:
    """Although its owner has opted in, and the upload before it is retained; nor is a zip."""
    account = "keeps-this-one"
    before = upload_after(flow, account, flow.grant(account))
    sent = flow.producer().send(photo(), account=account, never_retain=True)
    wished = sent.result(30).upload_id
    options = CutoutOptions(format="zip")
    zipped = flow.producer().send(photo(), account=account, options=options).result(30).upload_id
    assert flow.cutout(before.upload_id).never_retain is None
    assert flow.cutout(wished).never_retain
    assert flow.cutout(zipped).never_retain
    retained = flow.in_retained()
    assert before.upload_id in retained
    assert {wished, zipped}.isdisjoint(retained)


@pytest.fixture
def without_sink(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    """Yield the pipeline with its sink stopped."""
    flow.stack.stop_stage("sink")
    try:
        yield flow
    finally:
        flow.start_stages(["sink"])


def test_revoked_before_it_is_stored(without_sink: PipelineHarness) -> None:
    """An upload that still waits for the sink when its owner revokes is never stored."""
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
