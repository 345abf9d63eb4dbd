"""Stacks to measure: servers with topics and rights, and stages as processes."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from erasestream.pipeline.devstack.child_process import ChildProcess
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import LaneSettings
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.kafka.admin import Admin
from tests.paths import CACHE

SHOP, BULK = Lane("shop"), Lane("bulk")
READY_S = 90.0
NO_LIMIT = 10**12
POLL_S = 0.1
STAGES = ("infer", "route", "sink")


@contextmanager
def provisioned_servers(folder: Path, **parameters: Any) -> Iterator[Stack]:
    """Run broker and bucket with all topics and rights; `parameters` are `Stack.create`'s."""
    stack = Stack(folder / "stack", cache=CACHE)
    stack.create(**parameters)
    try:
        stack.start_servers()
        provision(Admin(stack.admin()), stack.catalog(), show=lambda _plan: None)
        yield stack
    finally:
        stack.stop()


def lane_settings(partitions: int) -> LaneSettings:
    """Return settings of a lane whose quotas limit nothing: benches look for other limits."""
    return LaneSettings(
        partitions=partitions,
        produce_bytes_per_s=NO_LIMIT,
        consume_bytes_per_s=NO_LIMIT,
        request_percent=float(NO_LIMIT),
    )


@contextmanager
def pipeline(
    *,
    models: Path,
    model: str,
    partitions: int = 4,
    stages: Sequence[str] = STAGES,
    settings: Mapping[str, str] = MappingProxyType({}),
    gateway: Lane | None = None,
) -> Iterator[Stack]:
    """Run a pipeline with both lanes; `settings` are environment variables of its stages.

    `gateway` is the lane that has one.
    """
    lanes = {
        lane: lane_settings(partitions).model_copy(update={"gateway": lane == gateway})
        for lane in (SHOP, BULK)
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        provisioned_servers(Path(folder), models=models, model=model, lanes=lanes) as stack,
    ):
        start(stack, stages, settings)
        yield stack


def start(
    stack: Stack, stages: Sequence[str], settings: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Start these stages and wait until all are ready."""
    for stage in stages:
        stack.start_stage(stage, **settings)
    for stage in stages:
        wait_ready(stack, stage)


def wait_ready(stack: Stack, stage: str) -> None:
    """Wait until a stage logs that it is ready."""
    wait_for_log(stack.stage(stage), stack.log_of(stage), '"ready"', timeout_s=READY_S)


def wait_for_log(process: ChildProcess, log: Path, text: str, *, timeout_s: float) -> None:
    """Wait until the log contains this text; raise with the log if the process ends first."""
    deadline = Deadline(timeout_s, time.monotonic)
    while text not in log.read_text():
        if process.process_id is None or deadline.has_passed:
            raise RuntimeError(log.read_text())
        time.sleep(POLL_S)


def peak_rss_mb(stack: Stack) -> dict[str, float]:
    """Return the peak resident memory of each process, in MB."""
    return {name: peak_mb(pid) for name, pid in stack.running().items()}


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1000
