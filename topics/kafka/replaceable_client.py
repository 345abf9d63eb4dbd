"""A client of librdkafka that threads share, and that can be replaced and closed under them.

Clients are replaced when the certificate was renewed, or when one stopped answering.  A closed
client ends its threads and sockets at once; a call that runs on it in another thread then reads
freed memory.  Rules, all of them:

* A client is lent for the length of a `with` block, and a lent client is never closed.
* A replaced client is not lent again, and is closed when its last block ends.
* After `close` nothing is lent; the last client is closed when its last block ends.
* `close` may be called by a signal handler, which interrupts a block, or a method, of its thread.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from erasestream.schemas.errors import ClientClosed

C = TypeVar("C")


class _Client(Generic[C]):
    """A client, and the number of blocks that use it."""

    __slots__ = ("handle", "is_closed", "users")

    def __init__(self, handle: C) -> None:
        self.handle = handle
        self.users = 0
        self.is_closed = False


class _Loan(Generic[C]):
    """A `with` block that uses the current client.  No generator, which would take twice as long.

    Uploads are queued in such a block.
    """

    __slots__ = ("_client", "_owner", "_thread")

    def __init__(self, owner: "ReplaceableClient[C]") -> None:
        self._owner = owner

    def __enter__(self) -> C:
        self._thread = threading.get_ident()
        self._client = self._owner._lend(self._thread)
        return self._client.handle

    def __exit__(self, *_: object) -> None:
        self._owner._take_back(self._client, self._thread)


class ReplaceableClient(Generic[C]):
    """Lends the current client.  Thread-safe."""

    def __init__(self, open_client: Callable[[], C], close_client: Callable[[C], object]) -> None:
        self._open = open_client
        self._close = close_client
        self._lock = threading.RLock()  # a signal handler may interrupt the thread that holds it
        self._borrowers: list[int] = []
        self._current: _Client[C] | None = _Client(open_client())

    def use(self) -> _Loan[C]:
        """Lend the current client for a `with` block, which raises `ClientClosed` after `close`."""
        return _Loan(self)

    @property
    def is_lent_to_caller(self) -> bool:
        """Whether the calling thread is in a `with` block: a signal handler is, if it stopped one.

        The block's client is then closed only after the handler has returned.
        """
        return threading.get_ident() in self._borrowers

    def _lend(self, thread: int) -> _Client[C]:
        with self._lock:
            client = self._current
            if client is None:
                raise ClientClosed
            self._borrowers.append(thread)
            client.users += 1
            if not client.is_closed:
                return client
        # A signal handler closed it between the last lines.
        self._take_back(client, thread)
        raise ClientClosed

    def _take_back(self, client: _Client[C], thread: int) -> None:
        with self._lock:
            client.users -= 1
            self._borrowers.remove(thread)
            is_over = self._is_over(client)
        if is_over:
            self._close(client.handle)

    def replace(self, handle: C) -> None:
        """Open another client in place of this one, unless a thread has done so already."""
        with self._lock:
            replaced = self._current
            if replaced is None or replaced.handle is not handle:
                return
            opened = _Client(self._open())
            if self._current is replaced:
                self._current = opened
            # Two, if a signal handler closed us while the other one was opened.
            over = [client for client in (replaced, opened) if self._is_over(client)]
        for client in over:
            self._close(client.handle)

    def close(self) -> None:
        """Lend nothing any more, and close the client.  Idempotent."""
        with self._lock:
            client, self._current = self._current, None
            is_over = client is not None and self._is_over(client)
        if client is not None and is_over:
            self._close(client.handle)

    def _is_over(self, client: _Client[C]) -> bool:
        """Return whether to close a client now; true once."""
        if client is self._current or client.users or client.is_closed:
            return False
        client.is_closed = True
        return True
