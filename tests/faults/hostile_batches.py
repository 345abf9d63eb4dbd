"""Five thousand forged record batches from one lane: `python -m tests.faults batches`.

A pipeline with two lanes and an eraser.  One lane sends forged batches to its uploads, decisions
and ledger, as fast as the broker takes them (`forged_batches.py`): as its quota allows, which is
sized for two cores as `docs/brokers.md` advises.  The other one uploads at a
steady rate, by turns with and without the flood, in the same run: the ratio of the two 99th
percentiles of each round is the figure.
"""

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Self

from erasestream.schemas.clocks import Deadline
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.bench.figures import Figure, figure, publish
from tests.faults.batch_fuzzer import BatchFuzzer, ForgedBatch
from tests.faults.lane_watch import LaneWatch
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, PARTITIONS, SHOP, STAGES, PipelineHarness

BATCHES = int(os.environ.get("HOSTILE_BATCHES", "5000"))
ROUNDS = 5
QUOTA = {"produce_bytes_per_s": 150_000, "request_percent": 40}
"""Of each lane: about half of the tiny photos that two cores can process, and less than half of a
broker's time on two cores."""
QUIET_S = 15.0
INTERVAL_S = 0.1
MAX_RATIO = 2.0
WATCH_EVERY = 100


def run(seed: int) -> int:
    """Run, print, write `docs/figures/faults.json`; return 0 if no lane was disturbed."""
    with tempfile.TemporaryDirectory() as folder:
        flow = PipelineHarness(Path(folder), **QUOTA)
        try:
            flow.start((*STAGES, "erase"))
            return _run_on(flow, random.Random(seed))
        finally:
            flow.stop()


def _run_on(flow: PipelineHarness, dice: random.Random) -> int:
    watch = LaneWatch(flow, (SHOP, BULK))
    ratios = []
    with (
        BatchFuzzer(flow.stack.cluster, SHOP, PARTITIONS[SHOP], dice) as fuzzer,
        _Honest(flow) as honest,
    ):
        honest.latencies_ms(_is_quiet_time())  # warm up
        for _ in range(ROUNDS):
            quiet = honest.latencies_ms(_is_quiet_time())
            forged = [fuzzer.draw() for _ in range(BATCHES // ROUNDS)]
            flood = threading.Thread(target=_flood, args=(fuzzer, watch, forged))
            flood.start()
            flooded = honest.latencies_ms(flood.is_alive)
            flood.join()
            ratios.append(_p99(flooded) / _p99(quiet))
            watch.wait_for_results()
    disturbed = watch.disturbances()
    for lane, complaints in disturbed.items():
        sys.stderr.write(f"{lane}: {'; '.join(complaints[:20])}\n")
    for answer, count in fuzzer.errors.most_common():
        sys.stderr.write(f"{count:6} {answer}\n")
    sent = fuzzer.errors.total()
    publish(
        "faults.json",
        [
            Figure("hostile.batches", sent, "1", f">= {BATCHES}", sent >= BATCHES),
            Figure("hostile.batches_accepted", fuzzer.accepted, "1"),
            Figure("hostile.lanes_disturbed", len(disturbed), "1", "= 0", not disturbed),
            figure("hostile.p99_ratio", ratios, "1", at_most=MAX_RATIO),
        ],
    )
    return int(bool(disturbed))


def _flood(fuzzer: BatchFuzzer, watch: LaneWatch, forged: list[ForgedBatch]) -> None:
    for number, each in enumerate(forged):
        fuzzer.send(each)
        if number % WATCH_EVERY == 0:
            watch.upload()


def _is_quiet_time() -> Callable[[], bool]:
    deadline = Deadline(QUIET_S, time.monotonic)
    return lambda: not deadline.has_passed


def _p99(latencies_ms: list[float]) -> float:
    return quantiles(latencies_ms, n=100)[98]


class _Honest:
    """An upstream service of the other lane."""

    def __init__(self, flow: PipelineHarness) -> None:
        self._producer = UploadProducer(flow.stack.cluster, BULK)
        self._results = ResultSubscription(flow.stack.cluster, BULK, group="honest")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._results.close()
        self._producer.close()

    def latencies_ms(self, goes_on: Callable[[], bool]) -> list[float]:
        """Return the time from the append of each upload to the receipt of its result.

        Uploads are sent while it `goes_on`, and at no other time.
        """
        found: list[float] = []
        sent, next_s = 0, time.monotonic()
        while goes_on() or len(found) < sent:
            if time.monotonic() >= next_s and goes_on():
                self._producer.send(photo(), account="honest")
                sent, next_s = sent + 1, next_s + INTERVAL_S
            delivery = self._results.poll(0.005)
            if delivery is not None:
                age_s = time.time() - delivery.event.uploaded_at.timestamp()
                found += [age_s * 1000] if delivery.event.account == "honest" else []
                delivery.ack()
        return found
