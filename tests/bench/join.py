"""The consent join, against the same loop without decisions and against Kafka Streams.

`erasestream route` itself, a plain transactional copy and Kafka Streams process the same results
in turn, round by round, each connected and warm all the time (`join_harness.py`).  The first
rounds only warm up, because a Java process that has just started is still compiling.

BENCH_ROUNDS makes it shorter, for a trial.
"""

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from erasestream.topics.catalog.topic_names import consent_of
from tests.bench import join_latency, join_opted_in, join_routers
from tests.bench.figures import Figure, figure
from tests.bench.join_copy import start_copy
from tests.bench.join_harness import (
    OURS,
    SHOP,
    Contender,
    JoinHarness,
    Round,
    open_harness,
    peak_rss_mb,
)
from tests.bench.join_peers import open_peer
from tests.bench.join_records import picture
from tests.bench.join_streams import KEPT, start_streams

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
WARM_UP = 4
ROUTE, COPY, STREAMS = "route", "copy", "streams"


class Case(NamedTuple):
    """Size and number of the results of a round, and the goal against Streams."""

    image_bytes: int
    results: int
    ratio_to_streams: float

    @property
    def mb(self) -> float:
        """Megabytes of images in a round."""
        return self.image_bytes * self.results / 1e6


CASES: Mapping[str, Case] = {
    "10KB": Case(10_000, 15_000, 2.0),
    "100KB": Case(100_000, 2_500, 1.5),
    "1MB": Case(1_000_000, 250, 1.3),
}
LARGEST = Case(60_000_000, 8, 0.0)


def measure() -> Iterator[Figure]:
    """Measure all figures of the join."""
    for name, case in CASES.items():
        with open_harness() as harness:  # one each: all sizes together are 35 GB on disk
            copy = open_peer(harness, COPY)
            yield from _compared(harness, copy, _open_streams(harness), name, case)
    with open_harness() as harness:
        yield from join_latency.measure(harness, _open_streams(harness))
        yield from join_opted_in.measure(harness, ROUNDS)
        yield from join_latency.barrier(harness)
        yield from join_routers.measure(harness, ROUNDS)
        yield from _largest(harness)


def _open_streams(harness: JoinHarness) -> Contender:
    return open_peer(harness, STREAMS, also_reads=(consent_of(SHOP),), kept=KEPT)


def _compared(
    harness: JoinHarness, copy: Contender, streams: Contender, name: str, case: Case
) -> Iterator[Figure]:
    contenders = {ROUTE: OURS, COPY: copy, STREAMS: streams}
    processes = {
        ROUTE: harness.start_router(),
        COPY: start_copy(harness, copy),
        STREAMS: start_streams(harness, streams),
    }
    rounds: dict[str, list[Round]] = {each: [] for each in contenders}
    image = picture(case.image_bytes)
    for _ in range(WARM_UP + ROUNDS):
        results = harness.results(SHOP, case.results, image)
        for each, contender in contenders.items():
            rounds[each].append(harness.round(contender, results, processes[each]))
    peaks = {each: peak_rss_mb(process) for each, process in processes.items()}
    for process in processes.values():
        process.stop(grace_s=15)
    first = {each: case.mb / done[0].elapsed_s for each, done in rounds.items()}
    warm = {each: done[WARM_UP:] for each, done in rounds.items()}
    yield from _speed(name, case, warm)
    yield Figure(
        f"join.first_round_ratio_to_kafka_streams.{name}",
        round(first[ROUTE] / first[STREAMS], 4),
        "ratio",
    )
    yield from _cost(name, case, warm, peaks)


def _speed(name: str, case: Case, warm: Mapping[str, list[Round]]) -> Iterator[Figure]:
    rates = {each: [case.mb / one.elapsed_s for one in done] for each, done in warm.items()}
    for each, values in rates.items():
        yield figure(f"join.mb_per_s.{each}.{name}", values, "MB/s")
    yield figure(
        f"join.ratio_to_copy.{name}", _ratios(rates[ROUTE], rates[COPY]), "ratio", at_least=0.9
    )
    yield figure(
        f"join.ratio_to_kafka_streams.{name}",
        _ratios(rates[ROUTE], rates[STREAMS]),
        "ratio",
        at_least=case.ratio_to_streams,
    )


def _cost(
    name: str, case: Case, warm: Mapping[str, list[Round]], peaks: Mapping[str, float]
) -> Iterator[Figure]:
    cpu = {each: [one.cpu_s / case.mb * 1000 for one in done] for each, done in warm.items()}
    for each, values in cpu.items():
        yield figure(f"join.cpu_s_per_gb.{each}.{name}", values, "s/GB")
        broker = [one.broker_cpu_s / case.mb * 1000 for one in warm[each]]
        yield figure(f"join.broker_cpu_s_per_gb.{each}.{name}", broker, "s/GB")
        yield Figure(f"join.rss_mb.{each}.{name}", round(peaks[each], 1), "MB")
    # The figure without a size is for the size of most images.
    suffix = "" if name == "100KB" else f".{name}"
    yield figure(
        f"join.cpu_ratio_to_kafka_streams{suffix}",
        _ratios(cpu[ROUTE], cpu[STREAMS]),
        "ratio",
        at_most=0.4,
    )
    yield figure(
        f"join.rss_ratio_to_kafka_streams{suffix}",
        [peaks[ROUTE] / peaks[STREAMS]],
        "ratio",
        at_most=0.5,
    )


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _largest(harness: JoinHarness) -> Iterator[Figure]:
    """Measure records near the size limit: memory is bounded by bytes, however many wait."""
    router = harness.start_router()
    image = picture(LARGEST.image_bytes)
    rates, cpu = [], []
    for _ in range(2):
        done = harness.round(OURS, harness.results(SHOP, LARGEST.results, image), router)
        rates.append(LARGEST.mb / done.elapsed_s)
        cpu.append(done.cpu_s / LARGEST.mb * 1000)
    peak = peak_rss_mb(router)
    router.stop(grace_s=15)
    yield figure("join.mb_per_s.route.60MB", rates, "MB/s")
    yield figure("join.cpu_s_per_gb.route.60MB", cpu, "s/GB")
    yield Figure("join.rss_mb.route.60MB", round(peak, 1), "MB")
