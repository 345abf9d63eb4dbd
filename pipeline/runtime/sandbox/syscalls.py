"""System calls that Python has no function for."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def call(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; return its result, negative if it failed."""
    converted = (
        each if isinstance(each, bytes | None) else ctypes.c_long(each) for each in arguments
    )
    return int(_LIBC.syscall(ctypes.c_long(number), *converted))


def prctl(option: int, value: int) -> None:
    """Set an option of this process.  Raises `OSError`."""
    arguments = (ctypes.c_ulong(each) for each in (value, 0, 0, 0))
    checked(int(_LIBC.prctl(ctypes.c_int(option), *arguments)), "prctl")


def drop_capabilities() -> None:
    """Give up all capabilities: root without them is an ordinary user.  Raises `OSError`."""
    version_3 = (0x20080522).to_bytes(4, "little") + bytes(4)
    checked(int(_LIBC.capset(version_3, bytes(24))), "capset")


def checked(result: int, name: str) -> int:
    """Return the result of the call `name`.  Raises `OSError` if it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result
