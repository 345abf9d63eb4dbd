"""Bound on the images and cut-outs in memory.

Requests are admitted or refused at once; a cut-out that a request waits for is always taken, and
keeps new requests out until it has left.  The requests of one account take at most half, so that
its bodies, however slowly they arrive, keep no other account out.  For one event loop.
"""

from collections import Counter
from types import TracebackType
from typing import Self

from erasestream.pipeline.gateway.problems import HttpCode, try_later
from erasestream.schemas.ids import AccountId


class MemoryBudget:
    """Bytes in use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used = 0
        self._of_accounts = Counter[AccountId]()

    def admit(self, size: int, account: AccountId | None) -> "Share":
        """Return a share of this size, of no account before it is known.

        Raises `Problem` (overloaded) if there is no room.
        """
        own = size if account is None else self._of_accounts[account] + size
        if self.used + size > self._max_bytes or own > self._max_bytes // 2:
            raise try_later(HttpCode.OVERLOADED)
        return Share(self, size, account)

    def use(self, size: int, account: AccountId | None) -> None:
        """Use more bytes, or fewer if negative."""
        self.used += size
        if account is not None:
            self._of_accounts[account] += size
            if not self._of_accounts[account]:
                del self._of_accounts[account]


class Share:
    """The bytes of one request, until the block ends."""

    def __init__(self, budget: MemoryBudget, size: int, account: AccountId | None = None) -> None:
        self._budget = budget
        self._account = account
        self._size = 0
        self.resize(size)

    def resize(self, size: int) -> None:
        """Use this many bytes from now on."""
        self._budget.use(size - self._size, self._account)
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
