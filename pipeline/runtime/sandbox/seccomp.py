"""System calls that the processes which see pixels may make, as filters for the kernel.

* ZYGOTE allows forking, but no thread and no program; SIGKILL, but no other signal; and receiving
  tasks from the socket that is open.
* CHILD allows memory, time, and exiting.  It is stacked on ZYGOTE, and the stricter one wins.
* LONG_LIVED is for a process that runs tasks itself.

A call that is not listed fails with EPERM.  Numbers: asm/unistd_64.h, asm-generic/unistd.h.
"""

import ctypes
import os
import signal
import struct
from enum import Enum
from types import MappingProxyType

from erasestream.pipeline.runtime.sandbox.bpf import (
    Architecture,
    Condition,
    Rule,
    assemble,
)
from erasestream.pipeline.runtime.sandbox.syscalls import call, checked

ARCHITECTURES = MappingProxyType({"x86_64": Architecture.X86_64, "aarch64": Architecture.ARM64})

# Name, number on x86-64, number on arm64 (None: no such call).
CHILD = (
    ("brk", 12, 214),
    ("clock_getres", 229, 114),
    ("clock_gettime", 228, 113),
    ("clock_nanosleep", 230, 115),
    ("close", 3, 57),
    ("exit", 60, 93),
    ("exit_group", 231, 94),
    ("futex", 202, 98),
    ("getcpu", 309, 168),
    ("getpid", 39, 172),
    ("getrandom", 318, 278),
    ("getrusage", 98, 165),
    ("gettid", 186, 178),
    ("gettimeofday", 96, 169),
    ("madvise", 28, 233),
    ("mremap", 25, 216),
    ("munmap", 11, 215),
    ("nanosleep", 35, 101),
    ("restart_syscall", 219, 128),
    ("rt_sigaction", 13, 134),
    ("rt_sigprocmask", 14, 135),
    ("rt_sigreturn", 15, 139),
    ("sched_getaffinity", 204, 123),
    ("sched_yield", 24, 124),
    ("setitimer", 38, 103),
    ("sigaltstack", 131, 132),
    ("sysinfo", 99, 179),
    ("uname", 63, 160),
)
_CHILD_MEMORY = (("mmap", 9, 222), ("mprotect", 10, 226))
_ZYGOTE = (
    ("close_range", 436, 436),
    ("fstat", 5, 80),
    ("getppid", 110, 173),
    ("mmap", 9, 222),
    ("mprotect", 10, 226),
    ("pipe2", 293, 59),
    ("poll", 7, None),
    ("ppoll", 271, 73),
    ("recvmsg", 47, 212),
    ("rseq", 334, 293),
    ("sendmsg", 46, 211),
    ("set_robust_list", 273, 99),
    ("set_tid_address", 218, 96),
    ("wait4", 61, 260),
)
CLONE3 = (435, 435)
"""The C library then uses clone, whose flags a filter can check."""
_CLONE, _FCNTL, _KILL = (56, 220), (72, 25), (62, 129)
_NEWFSTATAT, _PRCTL, _PRLIMIT, _SECCOMP = (262, 79), (157, 167), (302, 261), (317, 277)

_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x00200000, 0x01000000
_FORK = signal.SIGCHLD | _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID
_PROT_EXEC = 4
_AT_EMPTY_PATH = 0x1000
_F_DUPFD_CLOEXEC = 1030
_PR_SET_PDEATHSIG = 1
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2


class Filter(Enum):
    """Kind of process that a filter is for."""

    ZYGOTE = "zygote"
    CHILD = "child"
    LONG_LIVED = "long_lived"


def program(architecture: Architecture, which: Filter) -> bytes:
    """Return the BPF program of a filter."""
    column = 0 if architecture is Architecture.X86_64 else 1
    child, memory, zygote = (rules_of(calls, column) for calls in (CHILD, _CHILD_MEMORY, _ZYGOTE))
    unknown = [CLONE3[column]]
    match which:
        case Filter.CHILD:
            without = (Condition(argument=2, without_bits=_PROT_EXEC),)
            memory = [Rule(number=rule.number, conditions=without) for rule in memory]
            return assemble(architecture, [*child, *memory], unknown=unknown)
        case Filter.LONG_LIVED:
            return assemble(architecture, [*child, *zygote, *_mapping(column)], unknown=unknown)
        case Filter.ZYGOTE:
            return assemble(architecture, [*child, *zygote, *_guarded(column)], unknown=unknown)


def is_available() -> bool:
    """Return whether this kernel and architecture support `install`."""
    if os.uname().machine not in ARCHITECTURES:
        return False
    action = struct.pack("=I", 0x80000000)
    return call(_SECCOMP[_column()], _GET_ACTION_AVAIL, 0, action) == 0


def install(which: Filter) -> None:
    """Restrict this thread irrevocably.  Raises `OSError`.  Needs no_new_privs."""
    install_program(program(ARCHITECTURES[os.uname().machine], which))


def install_program(code: bytes) -> None:
    """Restrict this thread by a program for this machine.  Raises `OSError`."""
    buffer = ctypes.create_string_buffer(code, len(code))
    description = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    checked(call(_SECCOMP[_column()], _SET_MODE_FILTER, 0, description), "seccomp")


def _column() -> int:
    return 0 if os.uname().machine == "x86_64" else 1


def rules_of(calls: tuple[tuple[str, int, int | None], ...], column: int) -> list[Rule]:
    """Return rules that allow these calls; `column`: 0 for x86-64, 1 for arm64."""
    numbers = ((x86, arm)[column] for _, x86, arm in calls)
    return [Rule(number=number) for number in numbers if number is not None]


def _guarded(column: int) -> list[Rule]:
    """Return the calls that the zygote may make with certain arguments, and a child not at all."""
    conditions = {
        _CLONE: Condition(argument=0, only_bits=_FORK),
        _KILL: Condition(argument=1, equals=signal.SIGKILL),
        _PRCTL: Condition(argument=0, equals=_PR_SET_PDEATHSIG),
        _PRLIMIT: Condition(argument=0, equals=0),
        _SECCOMP: Condition(argument=0, equals=_SET_MODE_FILTER),
    }
    rules = [
        Rule(number=numbers[column], conditions=(condition,))
        for numbers, condition in conditions.items()
    ]
    return [*rules, *_mapping(column)]


def _mapping(column: int) -> list[Rule]:
    """Return the calls for mapping an open file: get its size, and duplicate its descriptor.

    Not allowed: looking at files otherwise, or having signals sent to the owner of a descriptor,
    which may be the parent.
    """
    size = Condition(argument=3, equals=_AT_EMPTY_PATH)
    duplicate = Condition(argument=1, equals=_F_DUPFD_CLOEXEC)
    return [
        Rule(number=_NEWFSTATAT[column], conditions=(size,)),
        Rule(number=_FCNTL[column], conditions=(duplicate,)),
    ]
