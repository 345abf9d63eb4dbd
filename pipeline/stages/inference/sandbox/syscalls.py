"""System calls that Python has no function for."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.sbrk.restype = _LIBC.malloc.restype = ctypes.c_void_p
_LIBC.sbrk.argtypes = [ctypes.c_ssize_t]
_LIBC.malloc.argtypes = [ctypes.c_size_t]
_LIBC.free.argtypes = [ctypes.c_void_p]

_IS_GLIBC = hasattr(_LIBC, "malloc_trim")
_LARGEST_PIECE, _SMALLEST_PIECE = 1 << 25, 1 << 16


def call(number: int, *arguments: int | bytes | None) -> int:
    """The kernel's answer; negative if it refused."""
    converted = (
        each if isinstance(each, bytes | None) else ctypes.c_long(each) for each in arguments
    )
    return int(_LIBC.syscall(ctypes.c_long(number), *converted))


def prctl(option: int, value: int) -> None:
    """Raises `OSError`."""
    arguments = (ctypes.c_ulong(each) for each in (value, 0, 0, 0))
    checked(int(_LIBC.prctl(ctypes.c_int(option), *arguments)), "prctl")


def drop_capabilities() -> None:
    """Give up all of them: root without capabilities is a user.  Raises `OSError`."""
    version_3 = (0x20080522).to_bytes(4, "little") + bytes(4)
    checked(int(_LIBC.capset(version_3, bytes(24))), "capset")


def checked(answer: int, what: str) -> int:
    """Raises `OSError` if it is negative."""
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return answer


def trim_heap() -> None:
    """Give back to the kernel what the allocator keeps; does nothing where it is not glibc's."""
    if _IS_GLIBC:
        _LIBC.malloc_trim(ctypes.c_size_t(0))


def occupy_heap() -> None:
    """Give back what the allocator keeps, and take the larger of the places where it was.

    For a process that forks: what its children take is new then, in large pages, where else they
    would copy what lies there free, page by page.  Does nothing where it is not glibc's, and
    little where that takes large pieces from elsewhere than its heap.
    """
    if not _IS_GLIBC:
        return
    trim_heap()
    size = _LARGEST_PIECE
    while size >= _SMALLEST_PIECE:
        end = _LIBC.sbrk(0)
        piece = _LIBC.malloc(size)
        if piece is None or piece > end or _LIBC.sbrk(0) != end:  # no place is as large
            _LIBC.free(piece)
            trim_heap()
            size //= 2
