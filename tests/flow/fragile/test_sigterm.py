"""SIGTERM to stages that are working."""

import signal

from erasestream.pipeline.runtime.runner import EX_OK
from tests.flow.health import status
from tests.flow.pipeline_harness import STAGES, PipelineHarness
from tests.flow.upload_batch import UploadBatch
from tests.flow.waiting import eventually


def test_sigterm_while_working(fragile: PipelineHarness) -> None:
    """A working stage is alive and ready; at SIGTERM it ends and logs it, and loses nothing."""
    for stage in STAGES:
        assert status(fragile, stage, "/healthz") == 200
        assert status(fragile, stage, "/readyz") == 200
        assert status(fragile, stage, "/") == 404
    batch = UploadBatch(fragile, opted_in="ended-a", not_opted_in="ended-b", count=200)
    eventually("the stages are working", lambda: batch.delivered().total() >= 1)
    for stage in STAGES:
        fragile.stack.stage(stage).send(signal.SIGTERM)
    for stage in STAGES:
        assert fragile.exit_code(stage) == EX_OK, fragile.stack.log_of(stage).read_text()
        assert fragile.lines(stage)[-1]["event"] == "ended"
    assert batch.delivered().total() < len(batch.ids), "the stages were already done"
    fragile.start_stages()
    batch.wait_for_results()
    assert set(batch.delivered().values()) == {1}
