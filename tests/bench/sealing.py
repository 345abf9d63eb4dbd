"""Cost of sealing in the client libraries: each round with it and without it, in turn.

Both sides send or receive the same images through the same broker, in lanes of their own.  The
ratios are those of the throughput.

BENCH_ROUNDS and BENCH_MB make it smaller, as for `clients.py`.
"""

from collections.abc import Iterator

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
LANES = {"sealed": SHOP, "ours": BULK}
"""The lane of each side; `ours` is the library without sealing."""


def measure() -> Iterator[Figure]:
    """Measure both libraries with both sizes."""
    for name, size in SIZES.items():
        with servers() as stack:
            yield _ratio(stack, "producer", name, SENT_MB * 1_000_000 // size)
        with servers() as stack:
            count = READ_MB * 1_000_000 // size
            for side, lane in LANES.items():
                client_subscriptions.fill(stack, lane, size, count, sealed=side == "sealed")
            yield _ratio(stack, "subscription", name, count)


def _ratio(stack: Stack, client: str, name: str, count: int) -> Figure:
    module, ratios = f"tests.bench.client_{client}s", list[float]()
    for number in range(-1, ROUNDS):  # the first one warms up the broker
        sides = list(LANES) if number % 2 else list(LANES)[::-1]
        seconds = {
            side: report_of(
                stack, module, side, LANES[side], str(SIZES[name]), str(count), f"{side}-{number}"
            )["s"]
            for side in sides
        }
        ratios.append(seconds["ours"] / seconds["sealed"])
    goal = GOALS[client, name]
    return figure(f"sealing.{client}_ratio.{name}", ratios[1:], "ratio", at_least=goal)
