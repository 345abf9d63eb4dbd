"""A revocation from the owner's word to the erasure marker, through the running pipeline."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.errors import Erased
from erasestream.schemas.events.images import Part
from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.test_routes import BOTH, stored_parts, upload_after

CONFIRM_S = 60.0


@pytest.fixture
def erasing(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    """The pipeline with its eraser."""
    flow.start_stages(["erase"])
    try:
        yield flow
    finally:
        flow.stack.stop_stage("erase")


def test_a_confirmed_revocation_ends_all_use(erasing: PipelineHarness) -> None:
    """What was kept opens no more, what is uploaded later is not kept, others are spared."""
    flow, account = erasing, "revokes"
    kept = upload_after(flow, account, flow.grant(account))
    other = upload_after(flow, "stays-opted-in", flow.grant("stays-opted-in"))
    for receipt in (kept, other):
        flow.cutout(receipt.upload_id)
    flow.wait_until_drained()
    reader = flow.reader()
    names = {found.name: found.upload_id for found in reader.list()}
    mine = [name for name, upload in names.items() if upload == kept.upload_id]
    theirs = [name for name, upload in names.items() if upload == other.upload_id]
    assert len(mine) == len(theirs) == len(Part)
    assert all(reader.open(name).plaintext for name in (*mine, *theirs))

    revoked = flow.revoke(account)
    flow.consent().await_confirmed(account, revoked, timeout_s=CONFIRM_S)

    later = flow.upload(account)
    flow.cutout(later.upload_id)
    flow.wait_until_drained()
    reader = flow.reader()
    for name in mine:
        with pytest.raises(Erased):
            reader.open(name)
    assert {found.upload_id for found in reader.list()}.isdisjoint(
        {kept.upload_id, later.upload_id}
    )
    assert all(reader.open(name).plaintext for name in theirs)
    assert stored_parts(flow, later.upload_id) == {}


def test_a_grant_after_a_revocation_keeps_again(erasing: PipelineHarness) -> None:
    """Under a grant of its own: the marker of the one before does not reach it."""
    flow, account = erasing, "comes-back"
    first = flow.grant(account)
    revoked = flow.revoke(account)
    flow.consent().await_confirmed(account, revoked, timeout_s=CONFIRM_S)
    again = flow.grant(account)
    assert again.grant != first.grant
    receipt = upload_after(flow, account, again)
    flow.cutout(receipt.upload_id)
    flow.wait_until_drained()
    assert stored_parts(flow, receipt.upload_id) == BOTH
    reader = flow.reader()
    opened = [reader.open(f.name) for f in reader.list() if f.upload_id == receipt.upload_id]
    assert len(opened) == len(Part)
