"""The gateway: what HTTPS costs beside the client libraries, its memory, and `rembg s`.

Clients of the gateway send to one lane, the libraries to another, the same photo through the same
stages, in turn in one run.  Clients, stages and broker share the cores.

BENCH_ROUNDS makes it smaller, for a trial.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import psutil

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import GATEWAY
from tests.bench.end_to_end import a_photo
from tests.bench.figures import Figure, figure
from tests.bench.gateway_memory import waiting_mb
from tests.bench.gateway_rembg import against_rembg
from tests.bench.gateway_stack import LIMITLESS, api_key, server_of
from tests.bench.https_clients import Race, race, upload_request
from tests.bench.library_clients import LibraryClients
from tests.bench.running_pipeline import BULK, SHOP, pipeline
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CLIENTS = {1: 60, 16: 320, 64: 640}
"""Requests of each number of clients in a round."""
PACED_ROUNDS = min(3, ROUNDS)
PACED = 320
"""Requests of a paced round, at most."""
LOAD = 0.5
"""Of the requests that saturate the cores, those of a paced round.

Without a rest between requests, latency is the time in queues, and the difference of two such
rounds is chance."""


def measure() -> Iterator[Figure]:
    """Measure latency and throughput with a tiny model, memory, and the ratio with IS-Net."""
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_model(Path(folder))
        stages = ("infer", "route", "gateway")
        with pipeline(
            models=Path(folder), model="tiny", stages=stages, settings=LIMITLESS, gateway=SHOP
        ) as stack:
            yield from _overhead(stack)
            yield waiting_mb(stack)
    yield from against_rembg(LIMITLESS)


def _overhead(stack: Stack) -> Iterator[Figure]:
    photo, server = a_photo(), server_of(stack)
    request = upload_request("/v2", "image_file", photo, headers={"x-api-key": api_key(stack)})
    gateway = psutil.Process(stack.running()[GATEWAY])
    with LibraryClients(stack.cluster, BULK) as library:
        race(server, [request], clients=16, count=160)
        library.race(photo, clients=16, count=160)
        for clients, count in CLIENTS.items():
            ours, theirs, cores = list[Race](), list[Race](), list[float]()
            for _ in range(ROUNDS):
                theirs.append(library.race(photo, clients=clients, count=count))
                before_s = sum(gateway.cpu_times()[:2])
                ours.append(race(server, [request], clients=clients, count=count))
                cores.append(count / (sum(gateway.cpu_times()[:2]) - before_s))
            yield from _compared(f"saturated.{clients}", ours, theirs)
            rates = [each.per_s for each in ours]
            yield figure(f"gateway.requests_per_s.{clients}", rates, "1/s")
            yield figure(f"gateway.requests_per_core_s.{clients}", cores, "1/s")
            period_s = clients / median(rates) / LOAD
            ours, theirs = [], []
            for _ in range(PACED_ROUNDS):
                of = min(count, PACED)
                theirs.append(library.race(photo, clients=clients, count=of, period_s=period_s))
                ours.append(race(server, [request], clients=clients, count=of, period_s=period_s))
            yield from _compared(str(clients), ours, theirs)


def _compared(name: str, ours: list[Race], theirs: list[Race]) -> Iterator[Figure]:
    for part, cut in (("p50", 49), ("p99", 98)):
        by_gateway, by_library = (
            [quantiles(each.latencies_s, n=100)[cut] * 1000 for each in races]
            for races in (ours, theirs)
        )
        added = [one - other for one, other in zip(by_gateway, by_library, strict=True)]
        goal = 50.0 if (part, name) == ("p99", "16") else None
        yield figure(f"gateway.overhead_{part}_ms.{name}", added, "ms", at_most=goal)
        yield figure(f"gateway.latency_{part}_ms.{name}", by_gateway, "ms")
        yield figure(f"gateway.library_latency_{part}_ms.{name}", by_library, "ms")
