"""Three hundred forged record batches, with a lane's certificates, against the running pipeline."""

import random
from collections.abc import Iterator

import pytest

from tests.faults.batch_fuzzer import BatchFuzzer
from tests.faults.lane_watch import LaneWatch
from tests.flow.pipeline_harness import BULK, PARTITIONS, SHOP, PipelineHarness
from tests.flow.upload_batch import opt_in
from tests.flow.waiting import eventually

BATCHES = 300
SEED = 20


@pytest.fixture(scope="module")
def erasing(flow: PipelineHarness) -> Iterator[PipelineHarness]:
    """Yield the pipeline with a running eraser."""
    flow.start_stages(["erase"])
    try:
        yield flow
    finally:
        flow.stack.stop_stage("erase")


def test_forged_batches_disturb_no_lane(erasing: PipelineHarness) -> None:
    """One result for each offset, every process goes on, and every confirmed revocation holds."""
    flow = erasing
    opt_in(flow, "fuzz-opted-in")
    watch = LaneWatch(flow, (SHOP, BULK))
    with BatchFuzzer(flow.stack.cluster, SHOP, PARTITIONS[SHOP], random.Random(SEED)) as fuzzer:
        for number in range(BATCHES):
            fuzzer.send(fuzzer.draw())
            if number % 20 == 0:
                watch.upload()
    kept = flow.upload("fuzz-opted-in").upload_id
    watch.wait_for_results()
    assert not watch.disturbances()
    assert fuzzer.accepted > BATCHES // 4, fuzzer.errors
    eventually("both images are retained", lambda: flow.in_retained().count(kept) == 2)
