"""Assemble seccomp filters: an allow-list of system calls, some with a condition.  Pure.

* A call of another architecture kills the process, before anything else is checked: its numbers
  mean other calls.  So does a call of x32 on x86-64.
* A call that is not listed fails with EPERM.
* A condition compares the low and the high half of an argument.

Sources: linux/filter.h, linux/seccomp.h, linux/audit.h.
"""

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL_PROCESS, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
DENIED = FAIL | errno.EPERM
UNKNOWN_CALL = FAIL | errno.ENOSYS

NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`."""
X32_BIT = 0x40000000
INSTRUCTION = struct.Struct("=HBBI")
_LOW_HALF = 0xFFFFFFFF


class Architecture(IntEnum):
    """AUDIT_ARCH_*, as the kernel passes it to a filter."""

    X86_64 = 0xC000003E
    ARM64 = 0xC00000B7


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Constraint on an argument of a call: one value, or no bits outside of a mask."""

    argument: int
    equals: int | None = None
    only_bits: int | None = None
    without_bits: int = 0

    def instructions(self) -> list[bytes]:
        """Return code that falls through if the condition holds, and otherwise denies the call."""
        low = ARGUMENTS + 8 * self.argument
        done = [_instruction(LOAD, low)]
        if self.equals is not None:
            done += [_instruction(JUMP_IF_EQUAL, self.equals, yes=1), _deny()]
        forbidden = self.without_bits
        if self.only_bits is not None:
            forbidden |= _LOW_HALF & ~self.only_bits
        if forbidden:
            done += [_instruction(JUMP_IF_ANY_BIT, forbidden, no=1), _deny()]
        high = [_instruction(LOAD, low + 4), _instruction(JUMP_IF_EQUAL, 0, yes=1), _deny()]
        return done + high


@dataclass(frozen=True, kw_only=True)
class Rule:
    """System call that is allowed if all conditions hold."""

    number: int
    conditions: tuple[Condition, ...] = ()

    def instructions(self) -> list[bytes]:
        """Return code that decides on this call, and falls through for every other one."""
        body = [piece for condition in self.conditions for piece in condition.instructions()]
        body.append(_instruction(RETURN, ALLOW))
        # A condition replaces the loaded number, but every path through it ends in a return.
        return [_instruction(JUMP_IF_EQUAL, self.number, no=len(body)), *body]


def assemble(
    architecture: Architecture, rules: Iterable[Rule], *, unknown: Iterable[int] = ()
) -> bytes:
    """Return the program.  `unknown`: calls that fail with ENOSYS, as in an older kernel."""
    program = [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(JUMP_IF_EQUAL, architecture, yes=1),
        _instruction(RETURN, KILL_PROCESS),
        _instruction(LOAD, NUMBER),
    ]
    if architecture is Architecture.X86_64:
        program += [_instruction(JUMP_IF_AT_LEAST, X32_BIT, no=1)]
        program += [_instruction(RETURN, KILL_PROCESS)]
    for number in unknown:
        program += [_instruction(JUMP_IF_EQUAL, number, no=1), _instruction(RETURN, UNKNOWN_CALL)]
    for rule in rules:
        program += rule.instructions()
    return b"".join([*program, _deny()])


def _deny() -> bytes:
    return _instruction(RETURN, DENIED)


def _instruction(code: int, operand: int, *, yes: int = 0, no: int = 0) -> bytes:
    return INSTRUCTION.pack(code, yes, no, operand)
