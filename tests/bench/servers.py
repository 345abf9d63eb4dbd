"""Servers without stages, to measure clients against, and reports of measuring processes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erasestream.pipeline.devstack.stack import Stack
from tests.bench.running_pipeline import BULK, SHOP, lane_settings, provisioned_servers

MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of our own in it, as in /tmp)
PROCESS_S = 240.0


@contextmanager
def servers(*, partitions: int = 4) -> Iterator[Stack]:
    """Run broker and bucket with the topics of both lanes.

    Their files are in memory where the system has a place for that: clients are measured here,
    and a disk that is busy now and then would dominate the result.
    """
    lanes = {lane: lane_settings(partitions) for lane in (SHOP, BULK)}
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        provisioned_servers(Path(folder), lanes=lanes) as stack,
    ):
        yield stack


def report_of(stack: Stack, module: str, *arguments: str) -> dict[str, Any]:
    """Run a module in a process of its own and return the JSON object on its last line."""
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
    """Return the resident memory of this process, in MB: now, and its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split()[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(kilobytes["VmRSS:"]) * 1024 / 1e6, int(kilobytes["VmHWM:"]) * 1024 / 1e6
