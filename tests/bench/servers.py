"""Servers without stages, to measure clients against, and what a process of its own says."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import LaneSettings
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.kafka.admin import Admin
from tests.bench.running_pipeline import BULK, CACHE, SHOP

MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of our own in it, as in /tmp)
PROCESS_S = 240.0


@contextmanager
def servers(*, partitions: int = 4) -> Iterator[Stack]:
    """Broker and bucket with the topics of both lanes, stopped at the end whatever happens.

    What they write lies in memory where the system has a place for that: clients are measured
    here, and a disk that is busy now and then would be most of what is seen.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        stack = Stack(Path(folder) / "stack", cache=CACHE)
        stack.create(lanes={lane: LaneSettings(partitions=partitions) for lane in (SHOP, BULK)})
        try:
            stack.start_servers()
            provision(Admin(stack.admin()), stack.catalog(), show=lambda _plan: None)
            yield stack
        finally:
            stack.stop()


def report_of(stack: Stack, module: str, *arguments: str) -> dict[str, Any]:
    """What a process of its own says at its end: a JSON object on its last line."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=stack.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PROCESS_S,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process, in MB: now, and its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split()[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(kilobytes["VmRSS:"]) * 1024 / 1e6, int(kilobytes["VmHWM:"]) * 1024 / 1e6
