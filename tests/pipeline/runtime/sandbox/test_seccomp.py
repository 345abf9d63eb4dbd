"""Verdicts of the filters on every system call, on both architectures.

The policy is written here a second time, independently; numbers of calls are in `system_calls.py`.
"""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erasestream.pipeline.runtime.sandbox import bpf, seccomp
from erasestream.pipeline.runtime.sandbox.bpf import Architecture, Condition, Rule
from erasestream.pipeline.runtime.sandbox.seccomp import Filter
from tests.paths import ROOT
from tests.pipeline.runtime.sandbox.cbpf import Instruction, checked, strictest, verdict
from tests.pipeline.runtime.sandbox.system_calls import (
    CHILD,
    CLONE3,
    GUARDED,
    MEMORY,
    NEVER,
    POLL,
    ZYGOTE,
)

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
DENIED, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X86_64, ARM64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028
X32 = 0x40000000
F_DUPFD_CLOEXEC = 1030

SIGCHLD, CHILD_CLEARTID, CHILD_SETTID = 17, 0x200000, 0x1000000
PROT_EXEC, PR_SET_PDEATHSIG, AT_EMPTY_PATH, SIGKILL, SET_MODE_FILTER = 4, 1, 0x1000, 9, 1
MACHINES = pytest.mark.parametrize("architecture", [X86_64, ARM64], ids=["x86-64", "arm64"])
EVERY = pytest.mark.parametrize("which", list(Filter), ids=lambda which: which.value)
WORD = st.integers(0, 2**64 - 1)
FORKS = SIGCHLD | CHILD_CLEARTID | CHILD_SETTID
VALUES = st.sampled_from(
    [
        *(0, 1, 2, 3, 4, 5, 7, 9, 15, SIGCHLD, FORKS, AT_EMPTY_PATH, F_DUPFD_CLOEXEC),
        *(1 << 32, (1 << 32) | SIGKILL, (1 << 32) | F_DUPFD_CLOEXEC, 2**64 - 1),
    ]
)
ARGUMENTS = st.lists(VALUES | WORD, min_size=6, max_size=6).map(tuple)


@cache
def program(which: Filter, architecture: int) -> list[Instruction]:
    """Return the filter as it is installed."""
    return checked(seccomp.program(Architecture(architecture), which))


def verdict_of(
    which: Filter, architecture: int, number: int, *arguments: int, foreign: int | None = None
) -> int:
    """Return a filter's verdict on a call of its own architecture, or of a foreign one."""
    return verdict(
        program(which, architecture),
        architecture=foreign or architecture,
        number=number,
        arguments=arguments,
    )


def numbers(
    calls: dict[str, tuple[int, int]] | dict[str, tuple[int, int | None]], of: int
) -> set[int]:
    """Return the numbers of these calls."""
    found = (arm if of == ARM64 else x86 for x86, arm in calls.values())
    return {number for number in found if number is not None}


def number(name: str, architecture: int) -> int:
    """Return the number of a call that has a condition."""
    x86, arm = (GUARDED | MEMORY)[name]
    return arm if architecture == ARM64 else x86


def guards(architecture: int) -> dict[int, Callable[[tuple[int, ...]], bool]]:
    """Return the calls that the zygote may make, with their conditions."""
    return {
        number("clone", architecture): lambda a: a[0] & ~FORKS == 0,
        number("kill", architecture): lambda a: a[1] == SIGKILL,
        number("prctl", architecture): lambda a: a[0] == PR_SET_PDEATHSIG,
        number("prlimit64", architecture): lambda a: a[0] == 0,
        number("seccomp", architecture): lambda a: a[0] == SET_MODE_FILTER,
    }


def expected(which: Filter, architecture: int, call: int, arguments: tuple[int, ...]) -> int:
    """Return the verdict of the policy."""
    if architecture == X86_64 and call >= X32:
        return KILLED
    if call == CLONE3:
        return UNKNOWN
    is_allowed = call in numbers(CHILD, architecture)
    if call in numbers(MEMORY, architecture):
        is_allowed = which is not Filter.CHILD or (
            arguments[2] < 2**32 and not arguments[2] & PROT_EXEC
        )
    if which is not Filter.CHILD:
        is_allowed |= call in numbers(ZYGOTE, architecture)
        is_allowed |= architecture == X86_64 and call == POLL
        is_looking = call == number("newfstatat", architecture)
        is_allowed |= is_looking and arguments[3] == AT_EMPTY_PATH
        is_allowed |= call == number("fcntl", architecture) and arguments[1] == F_DUPFD_CLOEXEC
    if which is Filter.ZYGOTE and call in (guarded := guards(architecture)):
        is_allowed = guarded[call](arguments)
    return ALLOWED if is_allowed else DENIED


@EVERY
@MACHINES
def test_every_call_has_the_verdict_of_the_policy(which: Filter, architecture: int) -> None:
    """All existing numbers and some beyond, with all arguments zero."""
    for call in range(1024):
        found = verdict_of(which, architecture, call)
        assert found == expected(which, architecture, call, (0,) * 6), call


@EVERY
@MACHINES
@given(call=st.integers(0, 2**32 - 1) | st.integers(0, 500), arguments=ARGUMENTS)
@example(call=X32, arguments=(0,) * 6)
@example(call=X32 - 1, arguments=(0,) * 6)
def test_any_call_with_any_arguments(
    which: Filter, architecture: int, call: int, arguments: tuple[int, ...]
) -> None:
    """Only the calls of the policy are allowed, with the arguments of the policy."""
    found = verdict_of(which, architecture, call, *arguments)
    assert found == expected(which, architecture, call, arguments)


@EVERY
@MACHINES
@given(name=st.sampled_from(sorted(GUARDED | MEMORY)), arguments=ARGUMENTS)
def test_conditions_hold_for_whole_arguments(
    which: Filter, architecture: int, name: str, arguments: tuple[int, ...]
) -> None:
    """All 64 bits of them, the upper half included."""
    call = number(name, architecture)
    found = verdict_of(which, architecture, call, *arguments)
    assert found == expected(which, architecture, call, arguments)


@EVERY
@MACHINES
@given(call=st.integers(0, 2**32 - 1) | st.integers(0, 500), arguments=ARGUMENTS)
def test_a_call_of_another_architecture_ends_the_process(
    which: Filter, architecture: int, call: int, arguments: tuple[int, ...]
) -> None:
    """Whatever the number, because its numbers mean other calls."""
    for foreign in {X86_64, ARM64, I386, ARM} - {architecture}:
        assert verdict_of(which, architecture, call, *arguments, foreign=foreign) == KILLED


@EVERY
@given(call=st.integers(0, 2**30 - 1) | st.sampled_from(sorted(numbers(CHILD, X86_64))))
def test_x32_ends_the_process(which: Filter, call: int) -> None:
    """The same architecture number, with pointers of 32 bits."""
    assert verdict_of(which, X86_64, X32 | call) == KILLED


@EVERY
@MACHINES
@given(arguments=ARGUMENTS)
def test_no_filter_allows_a_way_out(
    which: Filter, architecture: int, arguments: tuple[int, ...]
) -> None:
    """Files, network, programs, other processes, more rights: denied with any arguments."""
    for call in numbers(NEVER, architecture):
        assert verdict_of(which, architecture, call, *arguments) == DENIED, call


@MACHINES
@given(arguments=ARGUMENTS)
@example(arguments=(SIGCHLD, 0, 0, 0, 0, 0))
@example(arguments=(0, SIGKILL, 0, 0, 0, 0))
@example(arguments=(PR_SET_PDEATHSIG, 0, 0, 0, 0, 0))
def test_the_child_loses_the_calls_of_the_zygote(
    architecture: int, arguments: tuple[int, ...]
) -> None:
    """Both filters are in force, and the stricter one wins."""
    for call in numbers(GUARDED | ZYGOTE, architecture):
        both = (
            verdict_of(each, architecture, call, *arguments)
            for each in (Filter.ZYGOTE, Filter.CHILD)
        )
        assert strictest(*both) == DENIED


@MACHINES
@given(arguments=ARGUMENTS)
def test_the_zygotes_filter_allows_the_calls_of_the_child(
    architecture: int, arguments: tuple[int, ...]
) -> None:
    """The stack allows whatever the child's own filter allows."""
    for call in numbers(CHILD | MEMORY, architecture):
        child = verdict_of(Filter.CHILD, architecture, call, *arguments)
        assert strictest(verdict_of(Filter.ZYGOTE, architecture, call, *arguments), child) == child


@MACHINES
def test_the_calls_that_the_zygote_needs_are_allowed(architecture: int) -> None:
    """Fork as the C library does, kill a child, limit it, and install its filter."""
    for name, arguments in {
        "clone": (FORKS, 0, 0, 0, 0),
        "kill": (4711, SIGKILL),
        "prctl": (PR_SET_PDEATHSIG, SIGKILL),
        "prlimit64": (0, 7, 2**47),
        "seccomp": (SET_MODE_FILTER, 0, 2**47),
        "newfstatat": (3, 2**47, 2**47, AT_EMPTY_PATH),
        "fcntl": (3, F_DUPFD_CLOEXEC, 0),
        "mmap": (0, 4096, 7),
    }.items():
        assert (
            verdict_of(Filter.ZYGOTE, architecture, number(name, architecture), *arguments)
            == ALLOWED
        )


EXEMPT = {335, 336}
"""uretprobe and uprobe of x86-64, which newer kernels exempt from every filter: outside of a probe
they do nothing, or end the process."""
PROBE = """
import ctypes, os, resource, sys
from erasestream.pipeline.runtime.sandbox import seccomp, syscalls
which, denied, unknown, beyond = eval(sys.argv[1])
syscalls.prctl(38, 1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
seccomp.install(seccomp.Filter(which))
if beyond:
    syscalls.call(beyond)
    os._exit(2)
for wanted, calls in ((1, denied), (38, unknown)):
    for call in calls:
        if syscalls.call(call, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != wanted:
            os._exit(1)
os._exit(0)
"""


def probe(which: Filter, *, beyond: int = 0) -> int:
    """Return the status of a process that really makes the calls that the filter refuses."""
    here = X86_64 if os.uname().machine == "x86_64" else ARM64
    of = {call: verdict_of(which, here, call) for call in range(1024)}
    denied = [call for call, found in of.items() if found == DENIED and call not in EXEMPT]
    unknown = [call for call, found in of.items() if found == UNKNOWN]
    argument = repr((which.value, denied, unknown, beyond))
    command = [sys.executable, "-c", PROBE, argument]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode


@EVERY
def test_the_kernel_agrees_with_the_interpreter(which: Filter) -> None:
    """On each refused call of the first thousand."""
    assert probe(which) == 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86-64 has x32")
def test_the_kernel_kills_a_process_that_makes_an_x32_call() -> None:
    """By SIGSYS."""
    assert probe(Filter.CHILD, beyond=X32 | 39) == -signal.SIGSYS


def test_large_values_of_arguments_are_compared_completely() -> None:
    """Low and high half, value by value and bit by bit."""
    rules = [
        Rule(number=1, conditions=(Condition(argument=5, equals=0xFFFFFFFF),)),
        Rule(
            number=2, conditions=(Condition(argument=0, equals=3), Condition(argument=1, equals=4))
        ),
    ]
    built = checked(bpf.assemble(Architecture.ARM64, rules))

    def allows(call: int, *arguments: int) -> bool:
        return verdict(built, architecture=ARM64, number=call, arguments=arguments) == ALLOWED

    assert allows(1, 0, 0, 0, 0, 0, 0xFFFFFFFF)
    assert not allows(1, 0, 0, 0, 0, 0, 0x1FFFFFFFF)
    assert allows(2, 3, 4)
    assert not allows(2, 4, 3)
    assert not allows(3, 3, 4)
