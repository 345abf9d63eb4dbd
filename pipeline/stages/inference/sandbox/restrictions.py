"""What the processes that see pixels give up, in order, before they see one.

The zygote (`restrict_host`), before any thread of it exists, since a thread that exists
stays as it is: being dumped and read, privileges, capabilities, files and ports (Landlock),
and all but a few system calls (seccomp).  The child (`restrict_child`), before it looks at its
picture: memory and time without bound, new descriptors, and all calls but those for its work.
"""

import os
import resource
import signal
from enum import StrEnum
from pathlib import Path

from erasestream.pipeline.stages.inference.sandbox import landlock, seccomp
from erasestream.pipeline.stages.inference.sandbox.seccomp import Filter
from erasestream.pipeline.stages.inference.sandbox.syscalls import drop_capabilities, prctl
from erasestream.schemas.errors import IsolationMissing

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

_SPARE_CPU_S = 2
LANDLOCK, SECCOMP = "Landlock", "seccomp"


class Isolation(StrEnum):
    """How far pictures are kept apart."""

    PER_IMAGE = "per_image"
    """One image, one address space."""
    LONG_LIVED = "long_lived"
    """A process works on one image after the other: where a GPU forbids forking."""


class Enforcement(StrEnum):
    """What to do where the kernel can not isolate."""

    REQUIRED = "required"
    AS_FAR_AS_POSSIBLE = "as_far_as_possible"


def missing() -> tuple[str, ...]:
    """What this kernel lacks."""
    lacks = [] if landlock.version() else [LANDLOCK]
    return (*lacks, *([] if seccomp.is_available() else [SECCOMP]))


def refuse_unless_enforced(enforcement: Enforcement, lacks: tuple[str, ...]) -> None:
    """Raises `Refused` (isolation_missing) naming what `lacks`."""
    if lacks and enforcement is Enforcement.REQUIRED:
        setting = "inference.dangerously_run_without_isolation"
        raise IsolationMissing(f"{' and '.join(lacks)}; or set {setting}")


def end_with(parent: int) -> None:
    """Die when the parent does.  Raises `ProcessLookupError` if it did already."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError


def restrict_host(which: Filter, *, memory_bytes: int, lacks: tuple[str, ...]) -> None:
    """Raises `OSError` if the kernel does not do what it said that it can."""
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise OSError("a thread exists already, and would stay as it is")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl(_PR_SET_DUMPABLE, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    drop_capabilities()
    if LANDLOCK not in lacks:
        landlock.forbid_everything()
    if SECCOMP not in lacks:
        seccomp.install(which)


def restrict_child(*, cpu_s: float, lacks: tuple[str, ...]) -> None:
    """Raises `OSError`.  The filter is the last: it forbids what comes before it."""
    limits = {
        resource.RLIMIT_CPU: int(cpu_s) + _SPARE_CPU_S,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    if SECCOMP not in lacks:
        seccomp.install(Filter.WORK)
