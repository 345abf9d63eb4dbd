"""kill -9 in the midst of the work, and a restart: one result for each upload all the same."""

import pytest

from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.upload_batch import UploadBatch, opt_in
from tests.flow.waiting import eventually

UPLOADS = 200


@pytest.mark.parametrize(
    ("stage", "after"), [("infer", [10]), ("route", [5, 40]), ("sink", [5, 40])]
)
def test_killed_in_the_midst(fragile: PipelineHarness, stage: str, after: list[int]) -> None:
    """Nothing is lost and nothing comes twice: not a result, not an object."""
    flow, keeper = fragile, f"keeps-{stage}"
    opt_in(flow, keeper)
    tally = UploadBatch(flow, keeper=keeper, forgetter=f"forgets-{stage}", count=UPLOADS)

    def done() -> int:
        """How far the stage has come: both count up to 200."""
        return (tally.stored() if stage == "sink" else tally.delivered()).total()

    for count in after:
        eventually(f"{count} done", lambda count=count: done() >= count)  # type: ignore[misc]
        flow.stack.stage(stage).kill()
        flow.restart(stage)
    tally.assert_exact()
