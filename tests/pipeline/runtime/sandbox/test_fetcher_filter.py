"""Verdicts of a fetcher's filters; the policy is written here a second time."""

import errno
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.pipeline.runtime.sandbox.bpf import Architecture
from erasestream.pipeline.runtime.sandbox.fetcher_filter import FetcherFilter, program
from tests.pipeline.runtime.sandbox.cbpf import Instruction, checked, verdict
from tests.pipeline.runtime.sandbox.system_calls import CHILD, CLONE3, MEMORY

ALLOWED, DENIED = 0x7FFF0000, 0x00050000 | errno.EPERM
UNKNOWN, KILLED = 0x00050000 | errno.ENOSYS, 0x80000000
PHASES = pytest.mark.parametrize("which", list(FetcherFilter), ids=lambda which: which.value)
MACHINES = pytest.mark.parametrize("architecture", list(Architecture), ids=lambda each: each.name)

OPEN = {
    "getpeername": (52, 205), "getsockname": (51, 204), "getsockopt": (55, 209), "ppoll": (271, 73),
    "read": (0, 63), "recvfrom": (45, 207), "setsockopt": (54, 208), "shutdown": (48, 210),
    "write": (1, 64),
}  # fmt: skip
BEGIN = {
    "connect": (42, 203), "fstat": (5, 80), "lseek": (8, 62), "newfstatat": (262, 79),
    "openat": (257, 56), "recvmsg": (47, 212), "sendmmsg": (307, 269), "sendmsg": (46, 211),
}  # fmt: skip
FCNTL, IOCTL, SECCOMP, SENDTO, SOCKET = (72, 25), (16, 29), (317, 277), (44, 206), (41, 198)
POLL = 7
F_SETFL, F_SETOWN = 4, 8
FIONBIO, FIONREAD, TIOCSTI = 0x5421, 0x541B, 0x5412
UNIX, INET, INET6, NETLINK, PACKET, VSOCK = 1, 2, 10, 16, 17, 40
ANY = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40), min_size=6, max_size=6).map(tuple)


@cache
def built(which: FetcherFilter, architecture: Architecture) -> list[Instruction]:
    return checked(program(architecture, which))


def asked(
    which: FetcherFilter, architecture: Architecture, call: tuple[int, int], *arguments: int
) -> int:
    """Return the verdict on a call, by its numbers on both machines."""
    number = call[0 if architecture is Architecture.X86_64 else 1]
    return verdict(
        built(which, architecture), architecture=architecture, number=number, arguments=arguments
    )


@PHASES
@MACHINES
@settings(max_examples=10)
@given(arguments=ANY)
def test_only_the_calls_of_the_policy_are_allowed(
    which: FetcherFilter, architecture: Architecture, arguments: tuple[int, ...]
) -> None:
    """No program, no other process, no more rights; once connected, nothing new."""
    is_x86 = architecture is Architecture.X86_64
    always = {**CHILD, **OPEN, **(BEGIN if which is FetcherFilter.CONNECTING else {})}
    allowed = {x86 if is_x86 else arm for x86, arm in always.values()} | (
        {POLL} if is_x86 else set()
    )
    guarded = (*MEMORY.values(), FCNTL, IOCTL, SECCOMP, SENDTO, SOCKET)
    decided = {x86 if is_x86 else arm for x86, arm in guarded}
    for number in {*range(1024)} - decided - {CLONE3}:
        found = asked(which, architecture, (number, number), *arguments)
        assert found == (ALLOWED if number in allowed else DENIED), number
    assert asked(which, architecture, (CLONE3, CLONE3), *arguments) == UNKNOWN


@MACHINES
def test_sockets_are_those_of_the_internet(architecture: Architecture) -> None:
    for family in (INET, INET6):
        assert asked(FetcherFilter.CONNECTING, architecture, SOCKET, family) == ALLOWED
    for family in (UNIX, NETLINK, PACKET, VSOCK, INET | 1 << 32):
        assert asked(FetcherFilter.CONNECTING, architecture, SOCKET, family) == DENIED


@MACHINES
@given(arguments=ANY)
def test_a_connected_fetcher_begins_nothing(
    architecture: Architecture, arguments: tuple[int, ...]
) -> None:
    """No socket, no datagram to an address, no further filter."""
    for call in (SOCKET, SECCOMP):
        assert asked(FetcherFilter.CONNECTED, architecture, call, *arguments) == DENIED
    addressed = asked(FetcherFilter.CONNECTED, architecture, SENDTO, *arguments)
    assert addressed == (DENIED if arguments[4] else ALLOWED)
    assert asked(FetcherFilter.CONNECTING, architecture, SENDTO, *arguments) == ALLOWED


@PHASES
@MACHINES
def test_arguments_are_those_that_are_needed(
    which: FetcherFilter, architecture: Architecture
) -> None:
    """No signals to the owner of a descriptor, no input to a terminal, no code in memory."""
    assert asked(which, architecture, FCNTL, 3, F_SETFL) == ALLOWED
    assert asked(which, architecture, FCNTL, 3, F_SETOWN) == DENIED
    assert asked(which, architecture, IOCTL, 3, FIONBIO) == ALLOWED
    for request in (FIONREAD, TIOCSTI):
        assert asked(which, architecture, IOCTL, 3, request) == DENIED
    assert asked(which, architecture, MEMORY["mmap"], 0, 4096, 3) == ALLOWED
    assert asked(which, architecture, MEMORY["mprotect"], 0, 4096, 7) == DENIED


@PHASES
@MACHINES
def test_a_call_of_another_machine_ends_the_process(
    which: FetcherFilter, architecture: Architecture
) -> None:
    for foreign in {*Architecture, 0x40000003} - {architecture}:
        found = verdict(built(which, architecture), architecture=foreign, number=0)
        assert found == KILLED
