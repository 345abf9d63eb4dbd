"""The real zygote on a kernel without certain calls, which fail with ENOSYS.

The pool starts it as a module without further arguments, so each missing mechanism is a module of
its own beside this one.
"""

import ctypes
import os
import struct
import sys

from erasestream.pipeline.runtime.sandbox.bpf import (
    ALLOW,
    INSTRUCTION,
    JUMP_IF_EQUAL,
    LOAD,
    NUMBER,
    RETURN,
    UNKNOWN_CALL,
)
from erasestream.pipeline.runtime.sandbox.syscalls import call, checked, prctl
from erasestream.pipeline.stages.inference.isolation import zygote

LANDLOCK_CREATE_RULESET = (444, 444)
SECCOMP = (317, 277)


def serve_without(*calls: tuple[int, int]) -> int:
    """Run the zygote where these calls (their numbers on x86-64 and arm64) do not exist."""
    column = 0 if os.uname().machine == "x86_64" else 1
    program = [(LOAD, 0, 0, NUMBER)]
    for each in calls:
        program += [(JUMP_IF_EQUAL, 0, 1, each[column]), (RETURN, 0, 0, UNKNOWN_CALL)]
    program.append((RETURN, 0, 0, ALLOW))
    code = b"".join(INSTRUCTION.pack(*each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    description = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    prctl(38, 1)  # no new privileges: otherwise the kernel refuses a filter
    checked(call(SECCOMP[column], 1, 0, description), "seccomp")
    return zygote.main(sys.argv[1])
