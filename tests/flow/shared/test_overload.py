"""A gateway that gets more than it can answer: the long run is `make faults`."""

import asyncio

from tests.faults.overload import (
    REFUSALS,
    ROOM,
    SETTINGS,
    TIMES,
    is_known,
    issue_keys,
    load_on,
)
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import PipelineHarness
from tests.flow.waiting import eventually


def test_what_is_accepted_is_answered_and_the_rest_refused_at_once(flow: PipelineHarness) -> None:
    flow.start_stages(("gateway",), **SETTINGS)
    try:
        keys = issue_keys(flow, TIMES)
        eventually("the keys are known", lambda: all(is_known(flow, key, photo()) for key in keys))
        load = load_on(flow, keys, photo())
        asyncio.run(load.closed(TIMES * ROOM, 3.0))
        assert load.answers.wrong == []
        assert load.answers.statuses[200] > 0
        assert sum(load.answers.statuses[status] for status in REFUSALS) > 0
        assert is_known(flow, keys[0], photo())
    finally:
        flow.stack.stop_stage("gateway")
