"""Landlock without a single rule: no file, no TCP port, no abstract socket, no stranger's signal.

A process can not lift it, and its children inherit it.  What is open stays open.
Source: linux/landlock.h; version 1 (Linux 5.13) knows files only, 4 TCP, 6 sockets and signals.
"""

import os
import struct

from erasestream.pipeline.stages.inference.sandbox.syscalls import call, checked

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
_FILES = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_ALL_TCP = 3
_ALL_SCOPES = 3


def version() -> int:
    """What this kernel has: 0 for none."""
    return max(0, call(_CREATE_RULESET, None, 0, _ASK_VERSION))


def attributes(abi: int) -> bytes:
    """Everything that a kernel of this version can forbid.  Pure."""
    files = _FILES
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        files |= right if abi >= since else 0
    pieces = [files]
    pieces += [_ALL_TCP] if abi >= 4 else []  # noqa: PLR2004 (the version that brought it)
    pieces += [_ALL_SCOPES] if abi >= 6 else []  # noqa: PLR2004
    return struct.pack(f"={len(pieces)}Q", *pieces)


def forbid_everything() -> None:
    """For this thread and whatever it starts.  Raises `OSError`.  Needs no_new_privs."""
    handled = attributes(version())
    ruleset = checked(call(_CREATE_RULESET, handled, len(handled), 0), "landlock")
    try:
        checked(call(_RESTRICT_SELF, ruleset, 0), "landlock")
    finally:
        os.close(ruleset)
