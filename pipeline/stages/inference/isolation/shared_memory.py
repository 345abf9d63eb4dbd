"""Memory that two processes share and neither keeps: anonymous files, sealed at their size.

A file that could shrink would kill whoever maps it (SIGBUS, measured), one that could grow
would not be bounded.  Both are sealed, and so are the seals.  Untouched pages cost nothing.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

# linux/fcntl.h
_F_ADD_SEALS = 1033
_SEAL, _SHRINK, _GROW, _WRITE = 1, 2, 4, 8


@contextmanager
def holding(*pieces: bytes) -> Iterator[int]:
    """A descriptor of memory with these bytes, which nobody can change."""
    with _anonymous() as descriptor:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SHRINK | _GROW | _WRITE | _SEAL)
        yield descriptor


@contextmanager
def room_for(max_bytes: int) -> Iterator[int]:
    """A descriptor of memory of this size, all zero, to be written once by another process."""
    with _anonymous() as descriptor:
        os.ftruncate(descriptor, max_bytes)
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SHRINK | _GROW | _SEAL)
        yield descriptor


def copied(descriptor: int, max_bytes: int, at: int) -> bytes:
    """A copy, shorter if the memory ends before; without a mapping that could fail."""
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
