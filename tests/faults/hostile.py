"""Ten thousand hostile files through the real stage: `python -m tests.faults hostile`.

One broker with TLS, one inference worker with two children and a tiny model, one lane.  A bare
client sends the files, since our own producer would refuse many of them; a bare client reads
the answers too.

* Every upload has exactly one record in the partition of the same number, in order, by the
  deadline.  `WINDOW` uploads are in flight at once, so an upload waits for the others at most.
* Every answer is one of those allowed (`hostile_answers.py`).
* The worker is the same process at the end, and neither the worker nor a child ever exceeds
  its memory bound.
"""

import os
import sys
import tempfile
from pathlib import Path

from erasestream.pipeline.devstack.stack import Stack
from tests.bench.figures import Figure, publish
from tests.faults.hostile_exchange import WINDOW, Exchange, Outcome
from tests.faults.hostile_images import case
from tests.faults.inference_stack import cutouts_consumer, inference_servers, start_worker
from tests.faults.memory_watch import MemoryWatch

IMAGES = int(os.environ.get("HOSTILE_COUNT", "10000"))
WORKER_MB = 500.0
CHILD_MB = 1500.0
"""The bound that `images.Limits` states for the largest picture that is accepted."""


def run(seed: int) -> int:
    """Run, print, write `docs/figures/faults.json`; return 0 if nothing is wrong."""
    with tempfile.TemporaryDirectory() as folder, inference_servers(Path(folder)) as stack:
        start_worker(stack)
        with MemoryWatch(stack.running()["infer"]) as memory:
            outcome = _run_watched(stack, seed)
    _print(outcome)
    is_bounded = memory.worker_mb <= WORKER_MB and memory.child_mb <= CHILD_MB
    wrong = {"crashes": outcome.crashes, "unanswered": outcome.unanswered}
    wrong["wrong_answers"] = len(outcome.complaints)
    publish(
        "faults.json",
        [
            Figure("hostile.images", IMAGES, "1"),
            *(Figure(f"hostile.{n}", count, "1", "= 0", count == 0) for n, count in wrong.items()),
            Figure("hostile.slowest_s", round(outcome.slowest_s, 2), "s"),
            _bounded("hostile.rss_mb.worker", memory.worker_mb, WORKER_MB),
            _bounded("hostile.rss_mb.child", memory.child_mb, CHILD_MB),
        ],
    )
    return int(any(wrong.values()) or not is_bounded)


def _bounded(name: str, value: float, most: float) -> Figure:
    return Figure(name, round(value, 1), "MB", f"<= {most:g}", value <= most)


def _run_watched(stack: Stack, seed: int) -> Outcome:
    """Exchange all files, and print the worker's log if it is no longer the same process."""
    before = stack.running()["infer"]
    outcome = _exchange(stack, seed)
    outcome.crashes = int(stack.running().get("infer") != before)
    if outcome.crashes:
        sys.stderr.write(f"\n{stack.log_of('infer').read_text()[-2000:]}")
    return outcome


def _exchange(stack: Stack, seed: int) -> Outcome:
    """Send all files, a window at a time, and judge every answer as it comes."""
    exchange = Exchange(stack)
    with cutouts_consumer(stack, "hostile") as answers:
        while exchange.sent < IMAGES or exchange.in_flight:
            while exchange.sent < IMAGES and exchange.in_flight < WINDOW:
                exchange.send(case(seed, exchange.sent))
            exchange.poll()
            message = answers.poll(0.05)
            if message is not None and message.error() is None:
                exchange.judge(message)
                _print_progress(exchange)
            if exchange.is_overdue or stack.stage("infer").process_id is None:
                exchange.give_up()
                break
    return exchange.outcome


def _print_progress(exchange: Exchange) -> None:
    outcome = exchange.outcome
    if outcome.answers.total() % 50 == 0:
        sys.stderr.write(
            f"\r{exchange.sent} sent, {outcome.answers.total()} answered, "
            f"{len(outcome.complaints)} complaints, slowest {outcome.slowest_s:.1f} s "
        )


def _print(outcome: Outcome) -> None:
    sys.stderr.write("\n")
    for answer, count in outcome.answers.most_common():
        sys.stderr.write(f"{count:6} {answer}\n")
    for complaint in outcome.complaints[:50]:
        sys.stderr.write(f"{complaint}\n")
