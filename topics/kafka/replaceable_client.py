"""A client of librdkafka that threads share, and that can be replaced and closed under them.

Clients are replaced when the certificate was renewed, or when one stopped answering.  A closed
client ends its threads and sockets at once; a call that runs on it in another thread then reads
freed memory.  Rules, all of them:

* A client is lent for the length of a `with` block, and a lent client is never closed.
* A replaced client is not lent again, and is closed when its last block ends.
* After `close` nothing is lent; the last client is closed when its last block ends.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from erasestream.schemas.errors import ClientClosed

C = TypeVar("C")


class _Client(Generic[C]):
    """A client, and the number of blocks that use it."""

    __slots__ = ("handle", "users")

    def __init__(self, handle: C) -> None:
        self.handle = handle
        self.users = 0


class _Loan(Generic[C]):
    """A `with` block that uses the current client.  No generator, which would take twice as long.

    Uploads are queued in such a block.
    """

    __slots__ = ("_client", "_owner")

    def __init__(self, owner: "ReplaceableClient[C]") -> None:
        self._owner = owner

    def __enter__(self) -> C:
        self._client = self._owner._lend()
        return self._client.handle

    def __exit__(self, *_: object) -> None:
        self._owner._take_back(self._client)


class ReplaceableClient(Generic[C]):
    """Lends the current client.  Thread-safe."""

    def __init__(self, open_client: Callable[[], C], close_client: Callable[[C], object]) -> None:
        self._open = open_client
        self._close = close_client
        self._lock = threading.Lock()
        self._current: _Client[C] | None = _Client(open_client())

    def use(self) -> _Loan[C]:
        """Lend the current client for a `with` block, which raises `ClientClosed` after `close`."""
        return _Loan(self)

    def _lend(self) -> _Client[C]:
        with self._lock:
            client = self._current
            if client is None:
                raise ClientClosed
            client.users += 1
            return client

    def _take_back(self, client: _Client[C]) -> None:
        with self._lock:
            client.users -= 1
            is_unused = client is not self._current and not client.users
        if is_unused:
            self._close(client.handle)

    def replace(self, handle: C) -> None:
        """Open another client in place of this one, unless a thread has done so already."""
        with self._lock:
            replaced = self._current
            if replaced is None or replaced.handle is not handle:
                return
            self._current = _Client(self._open())
            is_unused = not replaced.users
        if is_unused:
            self._close(replaced.handle)

    def close(self) -> None:
        """Lend nothing any more, and close the client.  Idempotent."""
        with self._lock:
            client, self._current = self._current, None
            is_unused = client is not None and not client.users
        if client is not None and is_unused:
            self._close(client.handle)
