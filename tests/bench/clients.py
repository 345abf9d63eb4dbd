"""The client libraries against bare librdkafka: throughput, processor time, memory.

Both sides do the same work: mutual TLS, and every record acknowledged by an idempotent producer,
or read committed and committed by hand.  Each run is a process of its own; the sides alternate,
and every round gives one ratio.  The asynchronous clients are measured as well.

BENCH_ROUNDS and BENCH_MB (sent per run; twice as many are read) make it smaller, for a trial.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.ids import Lane
from tests.bench import client_subscriptions
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import BULK, SHOP
from tests.bench.servers import report_of, servers

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SENT_MB = int(os.environ.get("BENCH_MB", "150"))
READ_MB = 2 * SENT_MB
SIDES = ("ours", "twin", "bare")


class Payload(NamedTuple):
    """Images of one size, in a lane of their own."""

    name: str
    size: int
    lane: Lane

    def count(self, mb: int) -> int:
        """Return how many of them make this many megabytes."""
        return mb * 1_000_000 // self.size


PAYLOADS = (Payload("100KB", 100_000, SHOP), Payload("1MB", 1_000_000, BULK))

Report = dict[str, Any]


def measure() -> Iterator[Figure]:
    """Measure both libraries with both payloads."""
    with servers() as stack:
        for payload in PAYLOADS:
            rounds = _rounds(stack, "producers", payload, SENT_MB)
            yield from _figures("producer", payload.name, SENT_MB, rounds)
        for payload in PAYLOADS:
            client_subscriptions.fill(stack, payload.lane, payload.size, payload.count(READ_MB))
            rounds = _rounds(stack, "subscriptions", payload, READ_MB)
            yield from _figures("subscription", payload.name, READ_MB, rounds)


def _rounds(stack: Stack, clients: str, payload: Payload, mb: int) -> list[dict[str, Report]]:
    """Return the reports of each side in each round, after one round to warm up the broker."""
    module, rounds = f"tests.bench.client_{clients}", []
    work = (payload.lane, str(payload.size), str(payload.count(mb)))
    for number in range(-1, ROUNDS):
        sides = SIDES if number % 2 else SIDES[::-1]
        rounds.append(
            {side: report_of(stack, module, side, *work, f"{side}-{number}") for side in sides}
        )
    return rounds[1:]


def _figures(name: str, size: str, mb: int, rounds: list[dict[str, Report]]) -> Iterator[Figure]:
    def ratios(side: str, of: str) -> list[float]:
        return [each[side][of] / each["bare"][of] for each in rounds]

    speeds = [1 / ratio for ratio in ratios("ours", "s")]
    yield figure(f"{name}.ratio_to_librdkafka.{size}", speeds, "ratio", at_least=0.9)
    asynchronous = [1 / ratio for ratio in ratios("twin", "s")]
    yield figure(f"{name}.async_ratio_to_librdkafka.{size}", asynchronous, "ratio")
    yield figure(f"{name}.cpu_ratio_to_librdkafka.{size}", ratios("ours", "cpu_s"), "ratio")
    for side in SIDES:
        reports = [each[side] for each in rounds]
        label = {"ours": "ours", "twin": "async", "bare": "librdkafka"}[side]
        speed = [mb / report["s"] for report in reports]
        yield figure(f"{name}.mb_per_s.{label}.{size}", speed, "MB/s")
        yield figure(f"{name}.cpu_s.{label}.{size}", [each["cpu_s"] for each in reports], "s")
        yield figure(f"{name}.rss_mb.{label}.{size}", [each["peak_mb"] for each in reports], "MB")
