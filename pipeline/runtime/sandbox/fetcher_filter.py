"""System calls that the process which fetches a URL may make, as filters for the kernel.

* CONNECTING: what a name's resolution and one connection need.  Sockets of the internet only, and
  files as far as Landlock allows them.
* CONNECTED: reading and writing what is open.  No new socket, connection or file, so that nothing
  that reads a stranger's bytes can begin another connection.  It is stacked on CONNECTING, and the
  stricter one wins.

A call that is not listed fails with EPERM.  Numbers: asm/unistd_64.h, asm-generic/unistd.h.
"""

from enum import Enum

from erasestream.pipeline.runtime.sandbox.bpf import Architecture, Condition, Rule, assemble
from erasestream.pipeline.runtime.sandbox.seccomp import CHILD, CLONE3, rules_of

# Name, number on x86-64, number on arm64 (None: no such call).
_MEMORY = (("mmap", 9, 222), ("mprotect", 10, 226))
_CONNECTED = (
    ("getpeername", 52, 205),
    ("getsockname", 51, 204),
    ("getsockopt", 55, 209),
    ("poll", 7, None),
    ("ppoll", 271, 73),
    ("read", 0, 63),
    ("recvfrom", 45, 207),
    ("setsockopt", 54, 208),
    ("shutdown", 48, 210),
    ("write", 1, 64),
)
_CONNECTING = (
    ("connect", 42, 203),
    ("fstat", 5, 80),
    ("lseek", 8, 62),
    ("newfstatat", 262, 79),
    ("openat", 257, 56),
    ("recvmsg", 47, 212),
    ("sendmmsg", 307, 269),
    ("sendmsg", 46, 211),
    ("sendto", 44, 206),
)
_FCNTL, _IOCTL, _SECCOMP = (72, 25), (16, 29), (317, 277)
_SENDTO, _SOCKET = (44, 206), (41, 198)

_PROT_EXEC = 4
_SET_MODE_FILTER = 1
_INTERNET = 2 | 10
"""AF_INET and AF_INET6; the bits leave AF_UNIX, AF_NETLINK and AF_PACKET out."""
_FLAGS = 7
"""F_GETFD to F_SETFL; the bits leave F_SETOWN out, which sends signals to another process."""
_FIONBIO = 0x5421


class FetcherFilter(Enum):
    """Phase of the process."""

    CONNECTING = "connecting"
    CONNECTED = "connected"


def program(architecture: Architecture, which: FetcherFilter) -> bytes:
    """Return the BPF program of a filter."""
    column = 0 if architecture is Architecture.X86_64 else 1
    without = (Condition(argument=2, without_bits=_PROT_EXEC),)
    rules = rules_of((*CHILD, *_CONNECTED), column)
    rules += [Rule(number=each.number, conditions=without) for each in rules_of(_MEMORY, column)]
    conditions = {
        _FCNTL: Condition(argument=1, only_bits=_FLAGS),
        _IOCTL: Condition(argument=1, equals=_FIONBIO),
    }
    match which:
        case FetcherFilter.CONNECTING:
            rules += rules_of(_CONNECTING, column)
            conditions |= {
                _SECCOMP: Condition(argument=0, equals=_SET_MODE_FILTER),
                _SOCKET: Condition(argument=0, only_bits=_INTERNET),
            }
        case FetcherFilter.CONNECTED:
            # Only to the server that the socket is connected to.
            conditions[_SENDTO] = Condition(argument=4, equals=0)
    rules += [
        Rule(number=numbers[column], conditions=(condition,))
        for numbers, condition in conditions.items()
    ]
    return assemble(architecture, rules, unknown=[CLONE3[column]])
