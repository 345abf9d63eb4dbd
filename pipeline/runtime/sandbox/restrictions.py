"""Rights that the processes which see pixels give up, in order, before they see one.

* The worker process (`restrict_worker_process`), before it has a second thread, because an
  existing thread would stay unrestricted: core dumps and being read by others, privileges,
  capabilities, files and ports (Landlock), all but a few system calls (seccomp).
* The child (`restrict_child`), before it reads its picture: unlimited memory and time, new
  descriptors, all system calls but those for its work.
"""

import os
import resource
import signal
from enum import StrEnum
from pathlib import Path

from erasestream.pipeline.runtime.memory_protection import forbid_core_dumps
from erasestream.pipeline.runtime.sandbox import landlock, seccomp
from erasestream.pipeline.runtime.sandbox.seccomp import Filter
from erasestream.pipeline.runtime.sandbox.syscalls import drop_capabilities, prctl
from erasestream.schemas.errors import IsolationMissing

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_SPARE_CPU_S = 2
LANDLOCK, SECCOMP = "Landlock", "seccomp"


class Isolation(StrEnum):
    """Degree to which pictures are kept apart."""

    PER_IMAGE = "per_image"
    """One image, one address space."""
    LONG_LIVED = "long_lived"
    """One process for one image after another: where a GPU forbids forking."""


class Enforcement(StrEnum):
    """Consequence of a kernel that cannot isolate."""

    REQUIRED = "required"
    AS_FAR_AS_POSSIBLE = "as_far_as_possible"


def missing() -> tuple[str, ...]:
    """Return the mechanisms that this kernel lacks."""
    lacks = [] if landlock.version() else [LANDLOCK]
    return (*lacks, *([] if seccomp.is_available() else [SECCOMP]))


def refuse_unless_enforced(enforcement: Enforcement, lacks: tuple[str, ...]) -> None:
    """Raise `IsolationMissing`, naming what the kernel lacks, if isolation is required."""
    if lacks and enforcement is Enforcement.REQUIRED:
        setting = "inference.dangerously_run_without_isolation"
        raise IsolationMissing(f"{' and '.join(lacks)}; or set {setting}")


def end_with(parent: int) -> None:
    """End when the parent does.  Raises `ProcessLookupError` if it has ended already."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError


def give_up_privileges(*, memory_bytes: int) -> None:
    """Bound the memory; give up core dumps, new privileges and capabilities.  Raises `OSError`."""
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise OSError("a second thread exists already, and would stay unrestricted")
    forbid_core_dumps()
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    drop_capabilities()


def restrict_worker_process(which: Filter, *, memory_bytes: int, lacks: tuple[str, ...]) -> None:
    """Restrict this process and its children.  Raises `OSError` if the kernel does not do so."""
    give_up_privileges(memory_bytes=memory_bytes)
    if LANDLOCK not in lacks:
        landlock.forbid_everything()
    if SECCOMP not in lacks:
        seccomp.install(which)


def restrict_child(*, cpu_s: float, lacks: tuple[str, ...]) -> None:
    """Restrict a child.  Raises `OSError`.  The filter is last: it forbids the calls before it."""
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
        seccomp.install(Filter.CHILD)
