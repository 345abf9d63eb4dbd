"""kill -9 of a working stage, then a restart: still exactly one result per upload."""

import pytest

from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.upload_batch import UploadBatch, opt_in
from tests.flow.waiting import eventually

UPLOADS = 200


@pytest.mark.parametrize(
    ("stage", "after"), [("infer", [10]), ("route", [5, 40]), ("sink", [5, 40])]
)
def test_killed_while_working(fragile: PipelineHarness, stage: str, after: list[int]) -> None:
    """No result and no object is lost or duplicated."""
    flow, opted_in = fragile, f"keeps-{stage}"
    opt_in(flow, opted_in)
    batch = UploadBatch(flow, opted_in=opted_in, not_opted_in=f"forgets-{stage}", count=UPLOADS)

    def progress() -> int:
        """Count the stage's results or objects, up to 200 of either."""
        return (batch.stored() if stage == "sink" else batch.delivered()).total()

    for count in after:
        eventually(f"{count} done", lambda count=count: progress() >= count)  # type: ignore[misc]
        flow.stack.stage(stage).kill()
        flow.restart(stage)
    batch.assert_exact()
