"""Broker, bucket or vault unavailable: stages wait, log it once, and resume where they were."""

from signal import SIGTERM

from erasestream.pipeline.runtime.runner import EX_OK
from erasestream.schemas.errors import Code
from erasestream.topics.catalog.purposes import KEPT
from erasestream.topics.catalog.roles import KEYS, SINK
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.flow.pipeline_harness import STAGES, PipelineHarness
from tests.flow.upload_batch import UploadBatch, opt_in
from tests.flow.waiting import eventually

UPLOADS = 60
MANY = 500
"""Enough that the broker dies before all are processed, even on a fast machine."""
MAX_CLIENTS = 4
"""A stage has one client per task, and each of them logs an outage once."""
OUTAGE_EVENTS = ("broker_trouble", "waiting", "waiting_for_consent")


def test_bucket_unavailable(fragile: PipelineHarness) -> None:
    """Results are still delivered; images to retain wait, and are stored once."""
    flow = fragile
    opt_in(flow, "bucket-away")
    flow.wait_until_drained()
    flow.stack.bucket.stop(grace_s=10)
    before = len(flow.lines("sink", "waiting"))
    batch = UploadBatch(
        flow, opted_in="bucket-away", not_opted_in="bucket-of-no-matter", count=UPLOADS
    )
    batch.wait_for_results()
    flow.wait_for_event("sink", "waiting")
    flow.stack.start_bucket()
    batch.assert_exact()
    (waited,) = flow.lines("sink", "waiting")[before:]
    assert waited["code"] == Code.BUCKET_UNAVAILABLE
    assert flow.stack.stage("sink").process_id


def test_broker_unavailable(fragile: PipelineHarness) -> None:
    """After a broker dies and restarts, no result and no object is lost or duplicated.

    A stage whose client cannot continue (librdkafka fences its own static members) ends, and
    its supervisor restarts it; it must not stay alive and do nothing.
    """
    flow = fragile
    opt_in(flow, "broker-away")
    batch = UploadBatch(
        flow, opted_in="broker-away", not_opted_in="broker-of-no-matter", count=MANY
    )
    eventually("some results", lambda: batch.delivered().total() >= 10)
    before = {stage: len(flow.lines(stage, "broker_trouble")) for stage in STAGES}
    flow.stack.broker.kill()
    assert batch.delivered().total() < MANY, "the stages were already done"
    for stage in STAGES:
        eventually(
            f"{stage} logs the outage",
            lambda stage=stage: flow.lines(stage, *OUTAGE_EVENTS),  # type: ignore[misc]
        )
        assert len(flow.lines(stage, "broker_trouble")) <= before[stage] + MAX_CLIENTS
    flow.stack.broker.start()

    def is_done() -> bool:
        flow.restart_ended()
        return batch.is_done()

    eventually("everything is done", is_done, poll_s=0.5)
    batch.assert_exact()


def test_vault_unavailable(fragile: PipelineHarness) -> None:
    """A replica of the key service waits for it, ends when asked to, and finds the same keys."""
    stack = fragile.stack
    identity = Identity.load(stack.files.identities, SINK)

    def private_key() -> object:
        client = KeyClient(endpoints=stack.cluster.key_endpoints, identity=identity)
        return client.opening_key(KEPT, epoch, timeout_s=30)

    epoch = int(min(stack.files.masters.glob("*.key")).stem)
    before = private_key()
    assert isinstance(before, bytes)
    stack.bucket.stop(grace_s=10)
    assert private_key() == before
    stack.stage(KEYS).kill()
    stack.start_stage(KEYS)
    assert fragile.wait_for_event(KEYS, "waiting")["code"] == Code.BUCKET_UNAVAILABLE
    stack.stage(KEYS).send(SIGTERM)
    assert fragile.exit_code(KEYS) == EX_OK
    stack.start_stage(KEYS)
    fragile.wait_for_event(KEYS, "waiting")
    stack.start_bucket()
    fragile.wait_for_event(KEYS, "ready")
    assert private_key() == before
