"""Interpreter of classic BPF, as the kernel runs it for seccomp: returns a filter's verdict.

It covers architectures that no machine here has.  `checked` rejects programs that the kernel would
reject, and accepts only the instructions that a seccomp filter needs.

Sources: Documentation/networking/filter.rst, net/core/filter.c (`bpf_check_classic`),
kernel/seccomp.c (`seccomp_check_filter`), linux/seccomp.h (`struct seccomp_data`).
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

MOST_INSTRUCTIONS = 4096
_LOAD_WORD, _RETURN, _ALWAYS = 0x20, 0x06, 0x05
_TESTS: dict[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: a & k != 0,
}
_DATA = struct.Struct("=II Q 6Q")


class Instruction(NamedTuple):
    """Instruction, as in `struct sock_filter`."""

    code: int
    yes: int
    no: int
    operand: int


def checked(program: bytes) -> list[Instruction]:
    """Return the instructions of a program that the kernel would accept."""
    done = [Instruction(*each) for each in struct.iter_unpack("=HBBI", program)]
    assert 0 < len(done) <= MOST_INSTRUCTIONS
    assert done[-1].code == _RETURN
    for at, each in enumerate(done):
        left = len(done) - at - 1
        if each.code == _LOAD_WORD:
            assert each.operand % 4 == 0
            assert each.operand < _DATA.size
        elif each.code == _ALWAYS:
            assert each.operand < left
        elif each.code in _TESTS:
            assert max(each.yes, each.no) < left
        else:
            assert each.code == _RETURN, f"no such instruction: {each.code:#x}"
    return done


def verdict(
    program: list[Instruction], *, architecture: int, number: int, arguments: tuple[int, ...] = ()
) -> int:
    """Return the filter's verdict on this call."""
    six = (*arguments, *[0] * (6 - len(arguments)))
    data = _DATA.pack(number, architecture, 0, *six)
    loaded, at = 0, 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        if code == _LOAD_WORD:
            (loaded,) = struct.unpack_from("=I", data, operand)
        elif code == _ALWAYS:
            at += operand
        elif code in _TESTS:
            at += yes if _TESTS[code](loaded, operand) else no
        else:
            return operand


def strictest(*verdicts: int) -> int:
    """Return the kernel's verdict for stacked filters: the lowest action, signed."""
    return min(verdicts, key=lambda each: struct.unpack("=i", struct.pack("=I", each))[0])
