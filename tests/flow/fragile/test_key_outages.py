"""Key service unavailable: worker and sink wait for the keys that they lack, and for no others."""

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import KEYS, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, SHOP, PipelineHarness
from tests.flow.raw_client import RawClient, upload_record
from tests.flow.sealed_records import Sealer, send_sealed
from tests.flow.topic_reader import event_of
from tests.flow.upload_batch import opt_in_for_later_uploads
from tests.flow.waiting import eventually

UPLOADS = 12
ACCOUNT = "keys-away"


def test_uploads_wait_for_keys_without_delaying_other_lanes(fragile: PipelineHarness) -> None:
    """A worker that starts without the service, and without a key, goes on once it is back."""
    flow = fragile
    sealer = Sealer(flow.stack.cluster, BULK)
    records = [sealer.record(photo(), ACCOUNT) for _ in range(UPLOADS)]
    flow.stack.stage("infer").kill()
    flow.stack.stop_stage(KEYS)
    clients = {
        lane: RawClient(flow.stack.cluster, lane_role(lane, LaneRole.PRODUCER))
        for lane in (SHOP, BULK)
    }
    for record in records:
        clients[BULK].send(uploads_of(BULK), record, partition=0)
    flow.restart("infer")
    line = flow.wait_for_event("infer", "waiting")
    assert line["code"] == Code.KEYS_UNAVAILABLE
    clients[SHOP].send(uploads_of(SHOP), upload_record(photo(), ACCOUNT), partition=0)

    def found(lane: Lane) -> list[Cutout]:
        events = [event_of(record) for record in flow.results(lane)]
        return [e for e in events if isinstance(e, Cutout) and e.account == ACCOUNT]

    eventually("the other lane's result", lambda: found(SHOP))
    assert found(BULK) == []
    assert len(flow.lines("infer", "waiting")) == 1
    flow.stack.start_keys()
    eventually("all results", lambda: len(found(BULK)) >= UPLOADS)
    at = [event.position.offset for event in found(BULK)]
    assert at == sorted(set(at))
    assert len(at) == UPLOADS
    assert flow.stack.stage("infer").process_id


def test_images_to_be_kept_wait_for_keys(fragile: PipelineHarness) -> None:
    """A sink that starts without the service stores both once it is back, and nothing before."""
    flow, account = fragile, "kept-while-keys-are-away"
    flow.stack.stop_stage("sink")
    opt_in_for_later_uploads(flow, account)
    upload = send_sealed(flow.stack.cluster, SHOP, photo(), account)
    flow.cutout(upload)
    assert flow.in_retained().count(upload) == 2
    flow.stack.stop_stage(KEYS)
    flow.stack.start_stage("sink")
    line = flow.wait_for_event("sink", "waiting")
    assert line["code"] == Code.KEYS_UNAVAILABLE
    assert upload not in {name.upload_id for name in flow.stored()}
    flow.stack.start_keys()
    flow.wait_for_event("sink", "ready")
    flow.wait_until_drained()
    stored = [name.part for name in flow.stored() if name.upload_id == upload]
    assert sorted(stored) == sorted(Part)
    assert len(flow.lines("sink", "waiting", "ready")) == 2
