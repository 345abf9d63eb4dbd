"""Broker away, bucket away: stages wait, say so once, and go on where they were."""

from erasestream.pipeline.runtime.runner import EX_SOFTWARE, EX_UNAVAILABLE
from erasestream.schemas.errors import Code
from tests.flow.pipeline_harness import STAGES, PipelineHarness
from tests.flow.upload_batch import UploadBatch, opt_in
from tests.flow.waiting import eventually

UPLOADS = 60
MANY = 500
"""So many that the broker dies in the midst of them, on a fast machine too."""
MOST_CLIENTS = 4
"""A stage has a client for each of its tasks, and each says so once."""
TROUBLE = ("broker_trouble", "waiting", "waiting_for_consent")


def said(flow: PipelineHarness, stage: str, *events: str) -> list[dict[str, object]]:
    """The lines of a stage that are of these events."""
    return [line for line in flow.lines(stage) if line["event"] in events]


def test_bucket_away(fragile: PipelineHarness) -> None:
    """Results go on being delivered; what is to be kept waits, and is kept once."""
    flow = fragile
    opt_in(flow, "bucket-away")
    flow.wait_until_drained()
    flow.stack.bucket.stop(grace_s=10)
    before = len(said(flow, "sink", "waiting"))
    tally = UploadBatch(flow, keeper="bucket-away", forgetter="bucket-of-no-matter", count=UPLOADS)
    tally.wait_for_results()
    flow.wait_for("sink", "waiting")
    flow.stack.start_bucket()
    tally.assert_exact()
    (waited,) = said(flow, "sink", "waiting")[before:]
    assert waited["code"] == Code.BUCKET_UNAVAILABLE
    assert flow.stack.stage("sink").process_id


def test_broker_away(fragile: PipelineHarness) -> None:
    """A broker that dies and comes back: nothing is lost, and nothing comes twice.

    A stage whose client can not go on (librdkafka fences static members of its own) ends, and
    its supervisor starts it again; what must not happen is that it lives and does nothing.
    """
    flow = fragile
    opt_in(flow, "broker-away")
    tally = UploadBatch(flow, keeper="broker-away", forgetter="broker-of-no-matter", count=MANY)
    eventually("some results", lambda: tally.delivered().total() >= 10)
    flow.stack.broker.kill()
    assert tally.delivered().total() < MANY, "it was not in the midst"
    for stage in STAGES:
        eventually("it says so", lambda stage=stage: said(flow, stage, *TROUBLE))  # type: ignore[misc]
        assert len(said(flow, stage, "broker_trouble")) <= MOST_CLIENTS
    flow.stack.broker.start()

    def all_delivered() -> bool:
        """Restarting what has ended, as a supervisor does."""
        for stage in STAGES:
            if flow.stack.stage(stage).process_id is None:
                assert flow.exit_code(stage) in (EX_SOFTWARE, EX_UNAVAILABLE)
                flow.restart(stage)
        return tally.delivered().keys() == tally.ids and tally.stored().keys() == tally.objects

    eventually("everything is done", all_delivered, deadline_s=120, poll_s=0.5)
    tally.assert_exact()
