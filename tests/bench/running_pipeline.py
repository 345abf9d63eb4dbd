"""A whole pipeline to be measured: all stages as processes, both lanes."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import LaneSettings
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.kafka.admin import Admin
from tests.paths import CACHE

SHOP, BULK = Lane("shop"), Lane("bulk")
READY_S = 90.0
STAGES = ("infer", "route", "sink")


@contextmanager
def pipeline(
    *,
    models: Path,
    model: str,
    partitions: int = 4,
    stages: Sequence[str] = STAGES,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Stack]:
    """A running pipeline, stopped at the end whatever happens; `settings` of its stages."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack", cache=CACHE)
        lanes = {lane: LaneSettings(partitions=partitions) for lane in (SHOP, BULK)}
        stack.create(models=models, model=model, lanes=lanes)
        try:
            stack.start_servers()
            provision(Admin(stack.admin()), stack.catalog(), show=lambda _plan: None)
            start(stack, stages, settings)
            yield stack
        finally:
            stack.stop()


def start(
    stack: Stack, stages: Sequence[str], settings: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Start these stages; returns when all are ready."""
    for stage in stages:
        stack.start_stage(stage, **settings)
    for stage in stages:
        wait_ready(stack, stage)


def wait_ready(stack: Stack, stage: str) -> None:
    """Until it says so; its log if it does not."""
    end = time.monotonic() + READY_S
    while '"ready"' not in stack.log_of(stage).read_text():
        if stack.stage(stage).process_id is None or time.monotonic() > end:
            raise RuntimeError(stack.log_of(stage).read_text())
        time.sleep(0.1)


def peak_rss_mb(stack: Stack) -> dict[str, float]:
    """Peak resident memory of each process, in MB."""
    return {name: peak_mb(pid) for name, pid in stack.running().items()}


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1000
