"""The gateway with IS-Net against `rembg s` with the same weights, on the same cores, in turn.

rembg runs in two ways, as it is and with one thread for each request at as many requests as cores;
the ratio is to the faster of the two.  It answers plain HTTP, the gateway HTTPS; the client is the
same.

BENCH_ROUNDS and BENCH_IMAGES make it smaller, for a trial.
"""

import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from erasestream.pipeline.devstack.kafka.broker import free_ports
from erasestream.pipeline.stages.inference.models.install.build_choice import multiplies_bytes
from erasestream.pipeline.stages.inference.models.install.trial import CPUINFO
from erasestream.schemas.clocks import Deadline
from tests.bench import reference_loops
from tests.bench.figures import Figure, figure
from tests.bench.gateway_stack import api_key, server_of
from tests.bench.https_clients import Server, race, upload_request
from tests.bench.inference import CORES, two_megapixels
from tests.bench.running_pipeline import SHOP, pipeline
from tests.paths import CACHE

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "24"))
PHOTOS = 4
HOST = "127.0.0.1"
START_S, POLL_S = 180.0, 0.5
ONE_THREAD = ({"OMP_NUM_THREADS": "1"}, ("--threads", str(CORES)))
WAYS: Mapping[str, tuple[Mapping[str, str], Sequence[str]]] = {
    "as_it_is": ({}, ()),
    "one_thread_each": ONE_THREAD,
}


def against_rembg(settings: Mapping[str, str]) -> Iterator[Figure]:
    """Measure requests per second of both, with twice as many clients as cores."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        photos = [file.read_bytes() for file in two_megapixels(folder, PHOTOS)]
        python = reference_loops.rembg_python()
        weights = reference_loops.rembg_weights(folder / "weights")
        peers = {way: opened.enter_context(_rembg(python, weights, way)) for way in WAYS}
        stack = opened.enter_context(
            pipeline(
                models=CACHE / "models",
                model="isnet",
                stages=("infer", "route", "gateway"),
                settings=settings,
                gateway=SHOP,
            )
        )
        headers = {"x-api-key": api_key(stack)}
        ours = [upload_request("/v2", "image_file", each, headers=headers) for each in photos]
        fields = {"model": "isnet-general-use"}
        theirs = [upload_request("/api/remove", "file", each, fields=fields) for each in photos]
        sides = {"gateway": (server_of(stack), ours)}
        sides |= {way: (server, theirs) for way, server in peers.items()}
        for server, requests in sides.values():
            race(server, requests, clients=CORES, count=2 * PHOTOS)
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(ROUNDS):
            for side, (server, requests) in sides.items():
                found = race(server, requests, clients=2 * CORES, count=IMAGES)
                rates[side].append(found.per_s)
    yield figure("gateway.isnet_requests_per_s", rates["gateway"], "1/s")
    for way in WAYS:
        yield figure(f"gateway.rembg_requests_per_s.{way}", rates[way], "1/s")
    best = [max(each) for each in zip(*(rates[way] for way in WAYS), strict=True)]
    yield figure(
        "gateway.ratio_to_rembg",
        [our / their for our, their in zip(rates["gateway"], best, strict=True)],
        "ratio",
        at_least=2.5 if multiplies_bytes(CPUINFO.read_text()) else None,
    )


@contextmanager
def _rembg(python: Path, weights: Path, way: str) -> Iterator[Server]:
    """Run `rembg s` with these weights, which it would download otherwise."""
    (port,) = free_ports(1)
    variables, options = WAYS[way]
    environment = {
        **os.environ,
        "U2NET_HOME": str(weights),
        "MODEL_CHECKSUM_DISABLED": "1",
        "BROWSER": "true",  # the server opens its page otherwise
        **variables,
    }
    command = [str(python.with_name("rembg")), "s", "--no-ui", "--log_level=error"]
    command += [f"--host={HOST}", f"--port={port}", *options]
    with subprocess.Popen(command, env=environment) as process:
        try:
            _wait_until_it_answers(process, port)
            yield Server(HOST, port)
        finally:
            process.kill()


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = Deadline(START_S, time.monotonic)
    while True:
        if process.poll() is not None or deadline.has_passed:
            raise RuntimeError("rembg s did not start")
        connection = http.client.HTTPConnection(HOST, port, timeout=START_S)
        with suppress(OSError):
            connection.request("GET", "/api")
            connection.getresponse()
            return
        time.sleep(POLL_S)
