"""The key service with 200 clients at a change of epochs, and HPKE alone.

Two replicas and all clients share the cores.  Every request is a connection of its own, with a
handshake on both sides, as a producer makes one for each hour.

BENCH_CLIENTS and BENCH_ROUNDS make it smaller, for a trial.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, EpochRecipient
from erasestream.topics.catalog.roles import KEYS
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import BULK, SHOP, lane_settings, peak_mb, provisioned_servers
from tests.bench.servers import MEMORY, report_of

CLIENTS = int(os.environ.get("BENCH_CLIENTS", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
EPOCH = timedelta(seconds=20)
CALLS = 500


def measure() -> Iterator[Figure]:
    """Measure microseconds of HPKE, then requests per second and the slowest of them."""
    yield from _hpke()
    lanes = {lane: lane_settings(1) for lane in (SHOP, BULK)}
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        provisioned_servers(
            Path(folder), lanes=lanes, key_replicas=2, key_times={"epoch": EPOCH}
        ) as stack,
    ):
        rounds = [
            report_of(stack, "tests.bench.key_load", str(CLIENTS), str(EPOCH.total_seconds()))
            for _ in range(ROUNDS)
        ]
        peaks = [peak_mb(pid) for name, pid in stack.running().items() if name.startswith(KEYS)]
    yield figure("keys.requests_per_s", [each["per_s"] for each in rounds], "1/s")
    changes = [quantiles(each["change_ms"], n=100) for each in rounds]
    yield figure("keys.epoch_change_p50_ms", [median(each["change_ms"]) for each in rounds], "ms")
    yield figure("keys.epoch_change_p99_ms", [percentiles[98] for percentiles in changes], "ms")
    yield figure("keys.rss_mb", peaks, "MB")


def _hpke() -> Iterator[Figure]:
    private = X25519PrivateKey.generate()
    epoch = Epoch("inference.shop", 1)
    recipient = EpochRecipient(epoch, private.public_key())
    opener = EpochOpener(epoch, private)
    context, data_key = secrets.token_bytes(100), secrets.token_bytes(32)
    block = recipient.encrypt(data_key, context)
    yield _microseconds("keys.hpke_seal_us", lambda: recipient.encrypt(data_key, context))
    yield _microseconds("keys.hpke_open_us", lambda: opener.decrypt(block, context))


def _microseconds(name: str, call: Callable[[], object]) -> Figure:
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(CALLS):
            call()
        found.append((time.perf_counter() - begun) / CALLS * 1e6)
    return figure(name, found, "us")
