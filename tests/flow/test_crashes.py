"""kill -9 in the midst of the work, and a restart: one result for each upload all the same."""

from collections import Counter

import pytest

from erasestream.schemas.events import Cutout, Part
from erasestream.schemas.ids import UploadId
from erasestream.topics.producer import Receipt
from tests.flow.looking import event_of
from tests.flow.pictures import photo
from tests.flow.running import SHOP, Flow
from tests.flow.waiting import eventually

UPLOADS = 200


def opt_in(flow: Flow, account: str) -> None:
    """Grant, and wait until uploads are kept."""
    flow.grant(account)

    def is_kept() -> bool:
        upload = flow.upload(account).upload_id
        flow.cutout(upload)
        return upload in flow.in_retained()

    eventually("uploads are kept", is_kept, poll_s=0.5)


def send_all(flow: Flow, accounts: list[str]) -> list[Receipt]:
    """200 uploads of these accounts in turn."""
    producer = flow.producer()
    futures = [producer.send(photo(), account=accounts[n % len(accounts)]) for n in range(UPLOADS)]
    return [future.result(30) for future in futures]


def delivered(flow: Flow, wanted: set[UploadId]) -> Counter[UploadId]:
    """How often a read-committed subscriber was given the result of each of these uploads."""
    events = (event_of(record) for record in flow.results(SHOP))
    return Counter(event.id for event in events if event.id in wanted)


def stored(flow: Flow, wanted: set[UploadId]) -> Counter[tuple[UploadId, Part]]:
    """How many objects each part of these uploads has."""
    names = flow.stored()
    return Counter((name.upload_id, name.part) for name in names if name.upload_id in wanted)


@pytest.mark.parametrize(
    ("stage", "after"), [("infer", [10]), ("route", [5, 40]), ("sink", [5, 40])]
)
def test_killed_in_the_midst(fragile: Flow, stage: str, after: list[int]) -> None:
    """Nothing is lost and nothing comes twice: not a result, not an object."""
    flow, keeper = fragile, f"keeps-{stage}"
    opt_in(flow, keeper)
    ids = {receipt.upload_id for receipt in send_all(flow, [keeper, f"forgets-{stage}"])}
    progress = stored if stage == "sink" else delivered
    for count in after:
        eventually(f"{count} done", lambda count=count: progress(flow, ids).total() >= count)  # type: ignore[misc]
        flow.stack.stage(stage).kill()
        flow.restart(stage)
    eventually("all results", lambda: len(delivered(flow, ids)) == UPLOADS)
    flow.wait_until_drained()
    assert delivered(flow, ids) == Counter(ids)
    kept = {
        event.id
        for event in map(event_of, flow.results(SHOP))
        if event.id in ids and event.account == keeper and isinstance(event, Cutout)
    }
    assert len(kept) == UPLOADS // 2
    assert stored(flow, ids) == Counter((upload, part) for upload in kept for part in Part)
