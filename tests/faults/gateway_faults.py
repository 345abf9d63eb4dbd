"""`make faults ONLY=gateway`: 200 clients for two minutes, and the figures."""

import sys
import tempfile
from pathlib import Path

from tests.bench.figures import Figure, publish
from tests.bench.gateway_stack import LIMITLESS, api_key, server_of
from tests.bench.running_pipeline import SHOP, pipeline
from tests.faults.gateway_storm import (
    STAGES,
    GatewaySize,
    Supervisor,
    gateway_storm,
    judge,
)
from tests.faults.gateway_traffic import GatewayTraffic
from tests.flow.pictures import noise, photo
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

FULL = GatewaySize(clients=200, seconds=120.0, every_s=6.0, patience_s=60.0)


def run(size: GatewaySize = FULL) -> int:
    """Run the storm and publish its figures; return 0 if nothing is wrong."""
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        build_tiny_model(models)
        with pipeline(
            models=models, model="tiny", stages=STAGES, settings=LIMITLESS, gateway=SHOP
        ) as stack:
            photos = [photo(96, 64), photo(160, 120), noise()]
            traffic = GatewayTraffic(server_of(stack), photos, {"x-api-key": api_key(stack)})
            supervisor = Supervisor(stack, LIMITLESS)
            gateway_storm(size, traffic, supervisor)
            supervisor.wait_until_whole()
            outcome = judge(stack, SHOP, traffic)
    for code, count in (outcome.refused + outcome.codes).items():
        sys.stderr.write(f"{count:6} {code}\n")
    for each in supervisor.exits:
        sys.stderr.write(f"{each}\n")
    kills = supervisor.kills.total()
    unexplained = sum(not each.is_expected for each in supervisor.exits)
    wrong = {**outcome.wrong, "ended_unexplained": unexplained}
    figures = [
        Figure("faults.gateway.uploads", outcome.uploads, "1"),
        Figure("faults.gateway.kills", kills, "1"),
        Figure("faults.gateway.appended_twice", outcome.appended_twice, "1"),
        *(
            Figure(f"faults.gateway.{name}", count, "1", "= 0", count == 0)
            for name, count in wrong.items()
        ),
    ]
    publish("faults.json", figures)
    return int(any(wrong.values()))
