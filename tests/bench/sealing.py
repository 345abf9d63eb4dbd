"""Cost of sealing in the client libraries: each round with it and without it, in turn.

Both sides send or receive the same images through the same broker, in lanes of their own.  The
ratios are those of the throughput.  Beside them: the processor time that sealing adds to the client
for each image, and that of the primitives alone, below which it cannot be.

BENCH_ROUNDS and BENCH_MB make it smaller, as for `clients.py`.
"""

import secrets
import time
from collections.abc import Iterator
from functools import partial

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from erasestream.pipeline.devstack.stack import Stack
from tests.bench import client_subscriptions
from tests.bench.clients import READ_MB, ROUNDS, SENT_MB
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import BULK, SHOP
from tests.bench.servers import report_of, servers

SIZES = {"100KB": 100_000, "1MB": 1_000_000}
GOALS = {
    ("producer", "100KB"): 0.90,
    ("producer", "1MB"): 0.95,
    ("subscription", "100KB"): 0.85,
    ("subscription", "1MB"): 0.93,
}
CALLS = 500
LANES = {"sealed": SHOP, "ours": BULK}
"""The lane of each side; `ours` is the library without sealing."""


def measure() -> Iterator[Figure]:
    """Measure both libraries with both sizes."""
    for name, size in SIZES.items():
        with servers() as stack:
            yield from _figures(stack, "producer", name, SENT_MB * 1_000_000 // size)
        with servers() as stack:
            count = READ_MB * 1_000_000 // size
            for side, lane in LANES.items():
                client_subscriptions.fill(stack, lane, size, count, sealed=side == "sealed")
            yield from _figures(stack, "subscription", name, count)
        yield from _primitives(name, size)


def _figures(stack: Stack, client: str, name: str, count: int) -> Iterator[Figure]:
    module, ratios, added_us = f"tests.bench.client_{client}s", list[float](), list[float]()
    for number in range(-1, ROUNDS):  # the first one warms up the broker
        sides = list(LANES) if number % 2 else list(LANES)[::-1]
        reports = {
            side: report_of(
                stack, module, side, LANES[side], str(SIZES[name]), str(count), f"{side}-{number}"
            )
            for side in sides
        }
        sealed, ours = reports["sealed"], reports["ours"]
        ratios.append(ours["s"] / sealed["s"])
        added_us.append((sealed["cpu_s"] - ours["cpu_s"]) / count * 1e6)
    goal = GOALS[client, name]
    yield figure(f"sealing.{client}_ratio.{name}", ratios[1:], "ratio", at_least=goal)
    yield figure(f"sealing.{client}_added_us.{name}", added_us[1:], "us")


def _primitives(name: str, size: int) -> Iterator[Figure]:
    """Measure X25519 and AES-GCM as sealing and opening need them, without anything else."""
    private, cipher = X25519PrivateKey.generate(), AESGCM(secrets.token_bytes(32))
    public, nonce, image = private.public_key(), bytes(12), secrets.token_bytes(size)
    sealed, opened = bytearray(size + 16), bytearray(size)
    cipher.encrypt_into(nonce, image, None, sealed)
    agree, new_key = partial(private.exchange, public), X25519PrivateKey.generate
    encrypt = partial(cipher.encrypt_into, nonce, image, None, sealed)
    decrypt = partial(cipher.decrypt_into, nonce, bytes(sealed), None, opened)
    for kind, calls in (("seal", (new_key, agree, encrypt)), ("open", (agree, decrypt))):
        found = []
        for _ in range(CALLS):
            begun = time.process_time()
            for call in calls:
                call()
            found.append((time.process_time() - begun) * 1e6)
        yield figure(f"sealing.primitives_us.{kind}.{name}", found, "us")
