"""Ten thousand hostile files through the real stage: `python -m tests.faults hostile`.

One broker with TLS, one inference worker with two children and a tiny model, one lane.  Sent by
a bare client, since our own producer would refuse many of them; read by a bare client too.

* Every upload has exactly one record in the partition of the same number, in order, by the
  deadline.  `WINDOW` uploads are on their way at once, so one waits at most for the others.
* The answers are those that may be given (`hostile_answers.py`).
* The worker is the same process at the end, and neither it nor a child is ever larger than
  its bound.
"""

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from erasestream.pipeline.devstack.kafka.java_launcher import FIRST_COMPILER_ONLY
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import LaneSettings
from erasestream.schemas.events.images import Failure
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import ADMIN, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import cutouts_of, uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.figures import Figure, publish
from tests.bench.running_pipeline import CACHE, SHOP, wait_ready
from tests.faults.hostile_answers import complaint_about_cutout, complaint_about_refusal
from tests.faults.hostile_images import Case, case
from tests.faults.memory_watch import MemoryWatch
from tests.flow.raw_client import upload_record
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

IMAGES = int(os.environ.get("HOSTILE_COUNT", "10000"))
PARTITIONS = 4
WINDOW = 16
CHILDREN = 2
DEADLINE_S = 10.0
"""Of one image, within the stage."""
ANSWER_S = (WINDOW / CHILDREN + 1) * DEADLINE_S
"""If every upload before it took the whole of its deadline."""
WORKER_MB = 500.0
CHILD_MB = 1500.0
"""What `images.Limits` states for the largest picture that is taken."""


@dataclass
class Outcome:
    """What came of it."""

    answers: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    unanswered: int = 0
    slowest_s: float = 0.0
    crashes: int = 0


def run(seed: int) -> int:
    """Run, print, write `docs/figures/faults.json`; 0 if nothing is wrong."""
    with worker() as stack, MemoryWatch(stack.running()["infer"]) as memory:
        before = stack.running()["infer"]
        outcome = _through(stack, seed)
        outcome.crashes = int(stack.running().get("infer") != before)
        sys.stderr.write(
            f"\n{stack.log_of('infer').read_text()[-2000:]}" if outcome.crashes else ""
        )
    _tell(outcome)
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


@contextmanager
def worker() -> Iterator[Stack]:
    """Servers and one inference worker; stopped at the end whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        stack = servers(Path(folder))
        try:
            start_worker(stack)
            yield stack
        finally:
            stack.stop()


def servers(folder: Path) -> Stack:
    """A stack whose servers run and whose topics are there.  To be stopped by the caller."""
    build_tiny_model(folder / "models")
    stack = Stack(folder / "stack", cache=CACHE)
    lanes = {SHOP: LaneSettings(partitions=PARTITIONS)}
    stack.create(
        models=folder / "models", model="tiny", lanes=lanes, java_options=FIRST_COMPILER_ONLY
    )
    try:
        stack.start_servers()
        provision(Admin(stack.admin()), stack.catalog(), show=lambda _plan: None)
    except BaseException:
        stack.stop()
        raise
    return stack


def start_worker(stack: Stack) -> None:
    """Inference, until it is ready."""
    stack.start_stage(
        "infer",
        ERASESTREAM_INFERENCE__CHILDREN=str(CHILDREN),
        ERASESTREAM_INFERENCE__DEADLINE=f"PT{DEADLINE_S:.0f}S",
    )
    wait_ready(stack, "infer")


def _bounded(name: str, value: float, most: float) -> Figure:
    return Figure(name, round(value, 1), "MB", f"<= {most:g}", value <= most)


def _through(stack: Stack, seed: int) -> Outcome:
    """Send all, a window at a time, and judge every answer as it comes."""
    role = lane_role(SHOP, LaneRole.PRODUCER)
    connection = Connection(cluster=stack.cluster, role=role)
    producer = Producer(
        connection.settings(ClientErrorState(), linger_ms=0, message_max_bytes=30_000_000)
    )
    waiting: list[dict[int, tuple[Case, float]]] = [{} for _ in range(PARTITIONS)]
    sent = [0] * PARTITIONS
    outcome, index = Outcome(), 0
    with _results(stack) as results:
        while index < IMAGES or any(waiting):
            while index < IMAGES and sum(map(len, waiting)) < WINDOW:
                each, partition = case(seed, index), index % PARTITIONS
                record = upload_record(each.data, f"acct-{index}")
                producer.produce(
                    uploads_of(SHOP),
                    record.value,
                    partition=partition,
                    headers=list(record.headers.items()),
                )
                waiting[partition][sent[partition]] = (each, time.monotonic())
                sent[partition] += 1
                index += 1
            producer.poll(0)
            message = results.poll(0.05)
            if message is not None and message.error() is None:
                _judge(outcome, message, waiting)
                _show(outcome, index)
            if _is_over(stack, waiting):
                outcome.unanswered += sum(map(len, waiting))
                outcome.complaints += [f"{c.name}: none" for w in waiting for c, _ in w.values()]
                break
    return outcome


@contextmanager
def _results(stack: Stack) -> Iterator[Consumer]:
    settings = Connection(cluster=stack.cluster, role=ADMIN).settings(ClientErrorState())
    consumer = Consumer(settings | {"group.id": "hostile", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(cutouts_of(SHOP), n, 0) for n in range(PARTITIONS)])
        yield consumer
    finally:
        consumer.close()


def _judge(
    outcome: Outcome, message: Message, waiting: list[dict[int, tuple[Case, float]]]
) -> None:
    partition, offset = message.partition() or 0, message.offset() or 0
    if offset not in waiting[partition]:
        outcome.complaints.append(f"partition {partition}: a record more at {offset}")
        return
    # Offsets are dense and in order: the n-th record is the answer to the n-th upload.
    each, since = waiting[partition].pop(offset)
    outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - since)
    headers = _headers(message)
    value = bytes(message.value() or b"")
    expected = f"acct-{each.name.partition('/')[2].partition(' ')[0]}"
    if headers["ce_account"] != expected:
        outcome.complaints.append(f"{each.name}: the answer of {headers['ce_account']}")
    if headers["ce_type"] == Failure.type:
        code = str(json.loads(value)["code"])
        outcome.answers[code] += 1
        complaint = complaint_about_refusal(each, code)
    else:
        outcome.answers["cut out"] += 1
        complaint = complaint_about_cutout(each, value)
    outcome.complaints += [complaint] if complaint else []


def _headers(message: Message) -> dict[str, str]:
    pairs: list[tuple[str, bytes | None]] = list(message.headers() or [])  # type: ignore[arg-type]
    return {name: (value or b"").decode() for name, value in pairs}


def _is_over(stack: Stack, waiting: list[dict[int, tuple[Case, float]]]) -> bool:
    """Whether an answer will not come: its time is up, or the worker has ended."""
    oldest = min((since for each in waiting for _, since in each.values()), default=None)
    late = oldest is not None and time.monotonic() - oldest > ANSWER_S
    return late or stack.stage("infer").process_id is None


def _show(outcome: Outcome, index: int) -> None:
    if outcome.answers.total() % 50 == 0:
        sys.stderr.write(
            f"\r{index} sent, {outcome.answers.total()} answered, "
            f"{len(outcome.complaints)} complaints, slowest {outcome.slowest_s:.1f} s "
        )


def _tell(outcome: Outcome) -> None:
    sys.stderr.write("\n")
    for answer, count in outcome.answers.most_common():
        sys.stderr.write(f"{count:6} {answer}\n")
    for complaint in outcome.complaints[:50]:
        sys.stderr.write(f"{complaint}\n")
