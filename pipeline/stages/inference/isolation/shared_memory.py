"""Memory shared by two processes: anonymous files, sealed at their size.

Mapping a file that another process shrinks kills the reader (SIGBUS, measured), and a file that
could grow would be unbounded.  Both are sealed, and so are the seals.  Untouched pages cost
nothing.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

# linux/fcntl.h
_F_ADD_SEALS = 1033
_SEAL, _SHRINK, _GROW, _WRITE = 1, 2, 4, 8


@contextmanager
def holding(*pieces: bytes | memoryview) -> Iterator[int]:
    """Yield a descriptor of read-only memory that contains these bytes."""
    with _anonymous() as descriptor:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SHRINK | _GROW | _WRITE | _SEAL)
        yield descriptor


@contextmanager
def allocated(size_bytes: int) -> Iterator[int]:
    """Yield a descriptor of zeroed memory of this size, for another process to write once."""
    with _anonymous() as descriptor:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SHRINK | _GROW | _SEAL)
        yield descriptor


def copy_from(descriptor: int, max_bytes: int, at: int) -> bytes:
    """Copy at most `max_bytes`, fewer at the end of the memory; needs no mapping."""
    pieces = []
    while max_bytes and (piece := os.pread(descriptor, max_bytes, at)):
        pieces.append(piece)
        max_bytes -= len(piece)
        at += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextmanager
def _anonymous() -> Iterator[int]:
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
