"""A worker that comes to the others: the group does not stand still until they have done."""

import os
import signal
from pathlib import Path

from tests.flow.running import Flow
from tests.flow.tallies import Tally
from tests.flow.waiting import eventually

UPLOADS = 40


def zygotes_of(flow: Flow, stage: str) -> list[int]:
    """The processes that a worker's children are made by."""
    running = flow.stack.stage(stage).process_id
    assert running is not None
    found = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def test_it_waits_for_no_image(fragile: Flow) -> None:
    """With an image that does not end in one worker another gets its share, and serves it.

    What the first one had begun comes once, whoever makes it.
    """
    flow = fragile
    flow.stack.stage("infer").kill()
    flow.start_stages(["infer"], ERASESTREAM_INFERENCE__DEADLINE="PT5M")
    stopped = zygotes_of(flow, "infer")
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        tally = Tally(flow, keeper="rebalance-a", forgetter="rebalance-b", count=UPLOADS)
        flow.stack.start_stage("infer", name="infer-2", ERASESTREAM_STAGE__INSTANCE="2")
        flow.wait_for("infer-2", "ready")
        eventually("its share is served", lambda: tally.delivered().total() >= 1)
        assert tally.delivered().total() < UPLOADS, "nothing waited for the first worker"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        flow.stack.stage("infer-2").kill()
    eventually("all results", lambda: tally.delivered().keys() == tally.ids, deadline_s=120)
    assert set(tally.delivered().values()) == {1}
    assert flow.stack.stage("infer").process_id
