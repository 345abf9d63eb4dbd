"""The C library's heap: return free memory to the kernel, and keep it from being reused."""

import ctypes

_LIBC = ctypes.CDLL(None)
_LIBC.sbrk.restype = _LIBC.malloc.restype = ctypes.c_void_p
_LIBC.sbrk.argtypes = [ctypes.c_ssize_t]
_LIBC.malloc.argtypes = [ctypes.c_size_t]
_LIBC.free.argtypes = [ctypes.c_void_p]

_IS_GLIBC = hasattr(_LIBC, "malloc_trim")
_LARGEST_PIECE, _SMALLEST_PIECE = 1 << 25, 1 << 16


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
