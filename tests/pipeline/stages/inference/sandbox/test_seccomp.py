"""What the filters allow, call by call, on both architectures; asked as the kernel would.

The policy is written here a second time, and the numbers of the calls in `system_calls.py`.
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

from erasestream.pipeline.stages.inference.sandbox import bpf, seccomp
from erasestream.pipeline.stages.inference.sandbox.bpf import Architecture, Condition, Rule
from erasestream.pipeline.stages.inference.sandbox.seccomp import Filter
from tests.paths import ROOT
from tests.pipeline.stages.inference.sandbox.cbpf import Instruction, checked, strictest, verdict
from tests.pipeline.stages.inference.sandbox.system_calls import (
    CLONE3,
    GUARDED,
    HOST,
    MEMORY,
    NEVER,
    POLL,
    WORK,
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
    """The filter as it is installed."""
    return checked(seccomp.program(Architecture(architecture), which))


def asked(
    which: Filter, architecture: int, number: int, *arguments: int, foreign: int | None = None
) -> int:
    """The verdict of one filter; on a call of its own architecture, or of a foreign one."""
    return verdict(
        program(which, architecture),
        architecture=foreign or architecture,
        number=number,
        arguments=arguments,
    )


def numbers(
    calls: dict[str, tuple[int, int]] | dict[str, tuple[int, int | None]], of: int
) -> set[int]:
    """What these calls are called by."""
    found = (arm if of == ARM64 else x86 for x86, arm in calls.values())
    return {number for number in found if number is not None}


def number(name: str, architecture: int) -> int:
    """What one of the calls with a condition is called by."""
    x86, arm = (GUARDED | MEMORY)[name]
    return arm if architecture == ARM64 else x86


def guards(architecture: int) -> dict[int, Callable[[tuple[int, ...]], bool]]:
    """The calls that the zygote has in one way only."""
    return {
        number("clone", architecture): lambda a: a[0] & ~FORKS == 0,
        number("kill", architecture): lambda a: a[1] == SIGKILL,
        number("prctl", architecture): lambda a: a[0] == PR_SET_PDEATHSIG,
        number("prlimit64", architecture): lambda a: a[0] == 0,
        number("seccomp", architecture): lambda a: a[0] == SET_MODE_FILTER,
    }


def expected(which: Filter, architecture: int, call: int, arguments: tuple[int, ...]) -> int:
    """The policy, in words of its own."""
    if architecture == X86_64 and call >= X32:
        return KILLED
    if call == CLONE3:
        return UNKNOWN
    is_allowed = call in numbers(WORK, architecture)
    if call in numbers(MEMORY, architecture):
        is_allowed = which is not Filter.CHILD or (
            arguments[2] < 2**32 and not arguments[2] & PROT_EXEC
        )
    if which is not Filter.CHILD:
        is_allowed |= call in numbers(HOST, architecture)
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
    """All numbers that there are, and those beyond, without any argument set."""
    for call in range(1024):
        found = asked(which, architecture, call)
        assert found == expected(which, architecture, call, (0,) * 6), call


@EVERY
@MACHINES
@given(call=st.integers(0, 2**32 - 1) | st.integers(0, 500), arguments=ARGUMENTS)
@example(call=X32, arguments=(0,) * 6)
@example(call=X32 - 1, arguments=(0,) * 6)
def test_any_call_with_any_arguments(
    which: Filter, architecture: int, call: int, arguments: tuple[int, ...]
) -> None:
    """Nothing is allowed but what the policy names, with the arguments that it names."""
    found = asked(which, architecture, call, *arguments)
    assert found == expected(which, architecture, call, arguments)


@EVERY
@MACHINES
@given(name=st.sampled_from(sorted(GUARDED | MEMORY)), arguments=ARGUMENTS)
def test_conditions_hold_for_whole_arguments(
    which: Filter, architecture: int, name: str, arguments: tuple[int, ...]
) -> None:
    """All 64 bits of them: what is hidden in the upper half is seen."""
    call = number(name, architecture)
    found = asked(which, architecture, call, *arguments)
    assert found == expected(which, architecture, call, arguments)


@EVERY
@MACHINES
@given(call=st.integers(0, 2**32 - 1) | st.integers(0, 500), arguments=ARGUMENTS)
def test_a_call_of_another_architecture_ends_the_process(
    which: Filter, architecture: int, call: int, arguments: tuple[int, ...]
) -> None:
    """Its numbers mean other calls: whatever the number, none is looked at."""
    for foreign in {X86_64, ARM64, I386, ARM} - {architecture}:
        assert asked(which, architecture, call, *arguments, foreign=foreign) == KILLED


@EVERY
@given(call=st.integers(0, 2**30 - 1) | st.sampled_from(sorted(numbers(WORK, X86_64))))
def test_x32_ends_the_process(which: Filter, call: int) -> None:
    """The same architecture by name, with pointers of 32 bits: no call of it is allowed."""
    assert asked(which, X86_64, X32 | call) == KILLED


@EVERY
@MACHINES
@given(arguments=ARGUMENTS)
def test_ways_out_are_in_no_filter(
    which: Filter, architecture: int, arguments: tuple[int, ...]
) -> None:
    """Files, network, programs, other processes, more rights: refused, however it is asked."""
    for call in numbers(NEVER, architecture):
        assert asked(which, architecture, call, *arguments) == DENIED, call


@MACHINES
@given(arguments=ARGUMENTS)
@example(arguments=(SIGCHLD, 0, 0, 0, 0, 0))
@example(arguments=(0, SIGKILL, 0, 0, 0, 0))
@example(arguments=(PR_SET_PDEATHSIG, 0, 0, 0, 0, 0))
def test_the_child_loses_what_the_zygote_may(architecture: int, arguments: tuple[int, ...]) -> None:
    """Both filters are in force in it, and the stricter one wins."""
    for call in numbers(GUARDED | HOST, architecture):
        both = (
            asked(each, architecture, call, *arguments) for each in (Filter.ZYGOTE, Filter.CHILD)
        )
        assert strictest(*both) == DENIED


@MACHINES
@given(arguments=ARGUMENTS)
def test_the_zygotes_filter_takes_nothing_from_the_work(
    architecture: int, arguments: tuple[int, ...]
) -> None:
    """What the child may do by its own filter it may do beneath the zygote's."""
    for call in numbers(WORK | MEMORY, architecture):
        child = asked(Filter.CHILD, architecture, call, *arguments)
        assert strictest(asked(Filter.ZYGOTE, architecture, call, *arguments), child) == child


@MACHINES
def test_what_the_zygote_needs_is_allowed(architecture: int) -> None:
    """Fork as the C library does it, end a child, bound it, and hand it its filter."""
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
        assert asked(Filter.ZYGOTE, architecture, number(name, architecture), *arguments) == ALLOWED


PASSED = {335, 336}
"""uretprobe and uprobe of x86-64, which newer kernels let past every filter: outside of a probe
they do nothing, or end the process."""
PROBE = """
import ctypes, os, resource, sys
from erasestream.pipeline.stages.inference.sandbox import seccomp, syscalls
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


def probed(which: Filter, *, beyond: int = 0) -> int:
    """How a process ends that tries in earnest what the interpreter says is refused."""
    here = X86_64 if os.uname().machine == "x86_64" else ARM64
    of = {call: asked(which, here, call) for call in range(1024)}
    denied = [call for call, found in of.items() if found == DENIED and call not in PASSED]
    unknown = [call for call, found in of.items() if found == UNKNOWN]
    told = repr((which.value, denied, unknown, beyond))
    command = [sys.executable, "-c", PROBE, told]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode


@EVERY
def test_the_kernel_agrees_with_the_interpreter(which: Filter) -> None:
    """Of the thousand first calls each that is refused on paper is refused in earnest."""
    assert probed(which) == 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86-64 has x32")
def test_the_kernel_ends_who_calls_by_x32() -> None:
    """By the signal that nobody can catch."""
    assert probed(Filter.CHILD, beyond=X32 | 39) == -signal.SIGSYS


def test_an_argument_that_must_equal_a_large_value_is_compared_whole() -> None:
    """The assembler on its own: low and high half, value by value and bit by bit."""
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
