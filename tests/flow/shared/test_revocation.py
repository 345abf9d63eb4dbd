"""A revocation through the running pipeline, from the owner's call to the erasure marker."""

from collections.abc import Iterator

import pytest

from erasestream.schemas.errors import Erased
from erasestream.schemas.events.images import Part
from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.shared.test_routes import BOTH, stored_parts, upload_after

CONFIRM_S = 60.0


@pytest.fixture
def erasing(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    """Yield the pipeline with a running eraser."""
    flow.start_stages(["erase"])
    try:
        yield flow
    finally:
        flow.stack.stop_stage("erase")


def test_a_confirmed_revocation_ends_all_use(erasing: PipelineHarness) -> None:
    """Retained images no longer open, later ones are not retained, other accounts keep theirs."""
    flow, account = erasing, "revokes"
    retained = upload_after(flow, account, flow.grant(account))
    other = upload_after(flow, "stays-opted-in", flow.grant("stays-opted-in"))
    for receipt in (retained, other):
        flow.cutout(receipt.upload_id)
    flow.wait_until_drained()
    reader = flow.reader()
    names = {found.name: found.upload_id for found in reader.list()}
    mine = [name for name, upload in names.items() if upload == retained.upload_id]
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
        {retained.upload_id, later.upload_id}
    )
    assert all(reader.open(name).plaintext for name in theirs)
    assert stored_parts(flow, later.upload_id) == {}


def test_a_grant_after_a_revocation_retains_again(erasing: PipelineHarness) -> None:
    """It is a new grant: the erasure marker of the first one does not apply to it."""
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
