"""Memory that the C library keeps for reuse: return it to the kernel, or make it unavailable."""

import ctypes

_LIBC = ctypes.CDLL(None)
_LIBC.sbrk.restype = _LIBC.malloc.restype = ctypes.c_void_p
_LIBC.sbrk.argtypes = [ctypes.c_ssize_t]
_LIBC.malloc.argtypes = [ctypes.c_size_t]
_LIBC.free.argtypes = [ctypes.c_void_p]

_IS_GLIBC = hasattr(_LIBC, "malloc_trim")
_LARGEST_BLOCK, _SMALLEST_BLOCK = 1 << 25, 1 << 16


def trim_heap() -> None:
    """Return free memory of the allocator to the kernel; does nothing without glibc."""
    if _IS_GLIBC:
        _LIBC.malloc_trim(ctypes.c_size_t(0))


def occupy_heap() -> None:
    """Return free memory to the kernel, and allocate the larger of the holes that are left.

    For a process that forks: its children then get new memory, in large pages, where otherwise
    they would copy the holes page by page.  Does nothing without glibc, and little where glibc
    takes large blocks from elsewhere than its heap.
    """
    if not _IS_GLIBC:
        return
    trim_heap()
    size = _LARGEST_BLOCK
    while size >= _SMALLEST_BLOCK:
        end = _LIBC.sbrk(0)
        block = _LIBC.malloc(size)
        if block is None or block > end or _LIBC.sbrk(0) != end:  # no hole is as large
            _LIBC.free(block)
            trim_heap()
            size //= 2
