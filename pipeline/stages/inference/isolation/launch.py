"""Start the program of a worker process, with nothing of the parent's but a socket."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

from erasestream.pipeline.runtime.sandbox.restrictions import Enforcement, Isolation
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.isolation.launch_config import LaunchConfig

PROGRAM = "erasestream.pipeline.stages.inference.isolation.zygote"
_PASSED_ON = ("PYTHONPATH", "LD_LIBRARY_PATH")
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # One core per child; and a thread that starts early would stay unrestricted.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # The package sets it as well; here it does not depend on the order of imports.
    "ORT_DISABLE_TELEMETRY": "1",
    "MALLOC_ARENA_MAX": "1",
}
_ALLOCATOR = {
    # A child of one image keeps freed memory of any size until it exits: faulting pages in again
    # for every layer costs a sixth of its time (measured with IS-Net in 8 bits).
    Isolation.PER_IMAGE: {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        # Pages of 2 MB, where the system lets programs request them: a child faults in 200 MB,
        # which in pages of 4 KB costs another sixth.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    },
    # Pixels of a finished picture are returned to the kernel, not kept by the allocator.
    Isolation.LONG_LIVED: {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
}


@dataclass(frozen=True, kw_only=True)
class WorkerProcessSettings:
    """Settings of a worker process; `memory_bytes` bounds the address space of each process.

    `program`: the module that runs; tests replace it to do something else with an image.
    """

    model: Path
    memory_bytes: int
    start_deadline_s: float
    isolation: Isolation = Isolation.PER_IMAGE
    enforcement: Enforcement = Enforcement.REQUIRED
    limits: Limits = LIMITS
    program: str = PROGRAM


async def launch(settings: WorkerProcessSettings, descriptor: int) -> Process:
    """Start the program as leader of a process group; `descriptor` is its end of the socket."""
    config = LaunchConfig(
        model=settings.model,
        parent=os.getpid(),
        socket=descriptor,
        memory_bytes=settings.memory_bytes,
        isolation=settings.isolation,
        enforcement=settings.enforcement,
        limits=settings.limits,
    )
    # -P: modules in the working directory are not imported by accident.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", settings.program, config.model_dump_json()),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(descriptor,),
        start_new_session=True,
        env=_environment(settings.isolation),
    )


def _environment(isolation: Isolation) -> dict[str, str]:
    """Return an environment without the parent's settings and secrets."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return _ENVIRONMENT | _ALLOCATOR[isolation] | passed_on
