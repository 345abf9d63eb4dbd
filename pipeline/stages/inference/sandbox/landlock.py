"""Landlock without a single rule: no file, TCP port, abstract socket or signal to outsiders.

A process cannot lift it, and its children inherit it.  Open descriptors stay open.
Source: linux/landlock.h; version 1 (Linux 5.13) covers files only, 4 TCP, 6 sockets and signals.
"""

import os
import struct

from erasestream.pipeline.stages.inference.sandbox.syscalls import call, checked

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_GET_VERSION = 1
_FILES = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_ALL_TCP = 3
_ALL_SCOPES = 3


def version() -> int:
    """Return the version that this kernel supports, 0 for none."""
    return max(0, call(_CREATE_RULESET, None, 0, _GET_VERSION))


def attributes(abi: int) -> bytes:
    """Return everything that a kernel of this version can forbid.  Pure."""
    files = _FILES
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        files |= right if abi >= since else 0
    pieces = [files]
    pieces += [_ALL_TCP] if abi >= 4 else []  # noqa: PLR2004 (the version that added it)
    pieces += [_ALL_SCOPES] if abi >= 6 else []  # noqa: PLR2004
    return struct.pack(f"={len(pieces)}Q", *pieces)


def forbid_everything() -> None:
    """Restrict this thread and its descendants.  Raises `OSError`.  Needs no_new_privs."""
    handled = attributes(version())
    ruleset = checked(call(_CREATE_RULESET, handled, len(handled), 0), "landlock")
    try:
        checked(call(_RESTRICT_SELF, ruleset, 0), "landlock")
    finally:
        os.close(ruleset)
