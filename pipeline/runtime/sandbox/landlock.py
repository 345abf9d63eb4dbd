"""Landlock: no file, TCP port, abstract socket or signal to outsiders, but for the few allowed.

A process cannot lift it, and its children inherit it.  Open descriptors stay open.
Source: linux/landlock.h; version 1 (Linux 5.13) covers files only, 4 TCP, 6 sockets and signals.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from erasestream.pipeline.runtime.sandbox.syscalls import call, checked

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_FILES = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_ALL_TCP = 3
_ALL_SCOPES = 3
_PATH, _PORT = 1, 2
_READ_FILE, _CONNECT_TCP = 1 << 2, 1 << 1
_TCP_SINCE = 4


def version() -> int:
    """Return the version that this kernel supports, 0 for none."""
    return max(0, call(_CREATE_RULESET, None, 0, _GET_VERSION))


def attributes(abi: int) -> bytes:
    """Return everything that a kernel of this version can forbid.  Pure."""
    files = _FILES
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        files |= right if abi >= since else 0
    pieces = [files]
    pieces += [_ALL_TCP] if abi >= _TCP_SINCE else []
    pieces += [_ALL_SCOPES] if abi >= 6 else []  # noqa: PLR2004
    return struct.pack(f"={len(pieces)}Q", *pieces)


def forbid_everything() -> None:
    """Restrict this thread and its descendants.  Raises `OSError`.  Needs no_new_privs."""
    forbid_all_but()


def forbid_all_but(*, files: Iterable[Path] = (), ports: Iterable[int] = ()) -> None:
    """Restrict as `forbid_everything`; these files may be read, and these ports connected to.

    Files that do not exist are left out.  A kernel before version 4 allows all ports.
    """
    abi = version()
    handled = attributes(abi)
    ruleset = checked(call(_CREATE_RULESET, handled, len(handled), 0), "landlock")
    try:
        for file in files:
            _allow_file(ruleset, file)
        for port in ports if abi >= _TCP_SINCE else ():
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            checked(call(_ADD_RULE, ruleset, _PORT, rule, 0), "landlock")
        checked(call(_RESTRICT_SELF, ruleset, 0), "landlock")
    finally:
        os.close(ruleset)


def _allow_file(ruleset: int, file: Path) -> None:
    try:
        opened = os.open(file, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = struct.pack("=Qi", _READ_FILE, opened)
        checked(call(_ADD_RULE, ruleset, _PATH, rule, 0), "landlock")
    finally:
        os.close(opened)
