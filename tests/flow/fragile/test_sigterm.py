"""SIGTERM to stages that are working."""

import signal

import pytest

from erasestream.pipeline.runtime.runner import EX_OK
from tests.flow.health import status
from tests.flow.pipeline_harness import STAGES, PipelineHarness
from tests.flow.upload_batch import UploadBatch
from tests.flow.waiting import eventually

EVERY_STAGE = ("keys", "infer", "route", "sink", "purge", "erase", "gateway")
GRACE_S = 30.0
"""Kubernetes and our compose file kill a process after this time."""


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


@pytest.mark.parametrize("broker", ["killed", "silent"])
def test_sigterm_while_the_broker_is_unavailable(fragile: PipelineHarness, broker: str) -> None:
    """No stage has to be killed by its supervisor."""
    stack = fragile.stack
    fragile.start_stages(EVERY_STAGE)
    if broker == "killed":
        stack.broker.kill()
    else:
        stack.broker.pause()
    try:
        for stage in EVERY_STAGE:
            stack.stage(stage).send(signal.SIGTERM)
        for stage in EVERY_STAGE:
            stack.stop_stage(stage, grace_s=GRACE_S)
            assert stack.stage(stage).exit_code == EX_OK, stack.log_of(stage).read_text()
            # A thread of the client library may still report its broker after that.
            assert fragile.lines(stage, "ended")
    finally:
        stack.broker.resume()
        if broker == "killed":
            stack.broker.start()
