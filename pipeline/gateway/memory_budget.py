"""Bound on the images and cut-outs in memory.

Requests are admitted or refused at once; a cut-out that a request waits for is always taken, and
keeps new requests out until it has left.  For one event loop.
"""

from types import TracebackType
from typing import Self

from erasestream.pipeline.gateway.problems import HttpCode, try_later


class MemoryBudget:
    """Bytes in use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used = 0

    def admit(self, size: int) -> "Share":
        """Return a share of this size.  Raises `Problem` (overloaded) if there is no room."""
        if self.used + size > self._max_bytes:
            raise try_later(HttpCode.OVERLOADED)
        return Share(self, size)


class Share:
    """The bytes of one request, until the block ends."""

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self._budget = budget
        self._size = 0
        self.resize(size)

    def resize(self, size: int) -> None:
        """Use this many bytes from now on."""
        self._budget.used += size - self._size
        self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.resize(0)
