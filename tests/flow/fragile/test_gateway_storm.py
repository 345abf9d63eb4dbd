"""A gateway, and all that it depends on, killed in turn while customers upload; small."""

from tests.bench.gateway_stack import LIMITLESS, api_key, server_of
from tests.faults.gateway_storm import VICTIMS, GatewaySize, Supervisor, gateway_storm, judge
from tests.faults.gateway_traffic import GatewayTraffic
from tests.flow.pictures import noise, photo
from tests.flow.pipeline_harness import BULK, PipelineHarness

SMALL = GatewaySize(clients=12, seconds=0.0, every_s=1.0, patience_s=0.0)
"""As long as it takes to kill each once."""


def test_every_upload_is_answered_once_whatever_is_killed(fragile: PipelineHarness) -> None:
    """Its client gets the same answer when it asks again, and no upload on a broker is lost."""
    fragile.start_stages(("gateway",), **LIMITLESS)
    try:
        headers = {"x-api-key": api_key(fragile.stack, lane=BULK)}
        traffic = GatewayTraffic(server_of(fragile.stack), [photo(), noise()], headers)
        supervisor = Supervisor(fragile.stack, LIMITLESS)
        gateway_storm(SMALL, traffic, supervisor)
        supervisor.wait_until_whole()
        outcome = judge(fragile.stack, BULK, traffic)
    finally:
        fragile.stack.stop_stage("gateway")
    assert supervisor.kills == dict.fromkeys(VICTIMS, 1)
    assert not any(outcome.wrong.values()), outcome
    assert all(each.is_expected for each in supervisor.exits), supervisor.exits
    assert outcome.uploads >= SMALL.clients
