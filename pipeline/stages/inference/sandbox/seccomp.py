"""Which system calls the processes that see pixels may make, and how the kernel is told.

Two filters are stacked, and the stricter one wins.  HOST is for the zygote: it may fork, but
start no thread and no program; kill with SIGKILL, and nothing else; and take pictures from the
socket that it has.  WORK is for the child with the picture: memory, time, and its end.

A call that is on no list fails with EPERM.  Numbers: asm/unistd_64.h, asm-generic/unistd.h.
"""

import ctypes
import os
import signal
import struct
from enum import Enum
from types import MappingProxyType

from erasestream.pipeline.stages.inference.sandbox.bpf import (
    Architecture,
    Condition,
    Rule,
    assemble,
)
from erasestream.pipeline.stages.inference.sandbox.syscalls import call, checked

ARCHITECTURES = MappingProxyType({"x86_64": Architecture.X86_64, "aarch64": Architecture.ARM64})

# Name, number on x86-64, number on arm64 (None: it has none).
_WORK = (
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
    ("sigaltstack", 131, 132),
    ("sysinfo", 99, 179),
    ("uname", 63, 160),
)
_WORK_MEMORY = (("mmap", 9, 222), ("mprotect", 10, 226))
_HOST = (
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
_CLONE, _CLONE3, _FCNTL, _KILL = (56, 220), (435, 435), (72, 25), (62, 129)
_NEWFSTATAT, _PRCTL, _PRLIMIT, _SECCOMP = (262, 79), (157, 167), (302, 261), (317, 277)

_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x00200000, 0x01000000
_FORK = signal.SIGCHLD | _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID
_PROT_EXEC = 4
_AT_EMPTY_PATH = 0x1000
_F_DUPFD_CLOEXEC = 1030
_PR_SET_PDEATHSIG = 1
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2


class Filter(Enum):
    """Who a filter is for."""

    HOST = "host"
    WORK = "work"
    LONG_LIVED = "long_lived"


def program(architecture: Architecture, which: Filter) -> bytes:
    """The filter's BPF."""
    column = 0 if architecture is Architecture.X86_64 else 1
    work, memory, host = (_rules(calls, column) for calls in (_WORK, _WORK_MEMORY, _HOST))
    unknown = [_CLONE3[column]]  # the library then uses clone, whose flags a filter can see
    match which:
        case Filter.WORK:
            without = (Condition(argument=2, without_bits=_PROT_EXEC),)
            memory = [Rule(number=rule.number, conditions=without) for rule in memory]
            return assemble(architecture, [*work, *memory], unknown=unknown)
        case Filter.LONG_LIVED:
            return assemble(architecture, [*work, *host, *_mapping(column)], unknown=unknown)
        case Filter.HOST:
            return assemble(architecture, [*work, *host, *_guarded(column)], unknown=unknown)


def is_available() -> bool:
    """Whether this kernel and this architecture have what `install` needs."""
    if os.uname().machine not in ARCHITECTURES:
        return False
    action = struct.pack("=I", 0x80000000)
    return call(_SECCOMP[_column()], _GET_ACTION_AVAIL, 0, action) == 0


def install(which: Filter) -> None:
    """Restrict this thread, for ever.  Raises `OSError`.  Needs no_new_privs."""
    code = program(ARCHITECTURES[os.uname().machine], which)
    buffer = ctypes.create_string_buffer(code, len(code))
    description = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    checked(call(_SECCOMP[_column()], _SET_MODE_FILTER, 0, description), "seccomp")


def _column() -> int:
    return 0 if os.uname().machine == "x86_64" else 1


def _rules(calls: tuple[tuple[str, int, int | None], ...], column: int) -> list[Rule]:
    numbers = ((x86, arm)[column] for _, x86, arm in calls)
    return [Rule(number=number) for number in numbers if number is not None]


def _guarded(column: int) -> list[Rule]:
    """What the zygote may do in one way only; the child then loses all of it."""
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
    """What a mapping of something open needs: its size, and a descriptor of its own.

    No other way to look at a file, and none to have the owner of a descriptor sent a signal,
    who may be the worker.
    """
    size = Condition(argument=3, equals=_AT_EMPTY_PATH)
    duplicate = Condition(argument=1, equals=_F_DUPFD_CLOEXEC)
    return [
        Rule(number=_NEWFSTATAT[column], conditions=(size,)),
        Rule(number=_FCNTL[column], conditions=(duplicate,)),
    ]
