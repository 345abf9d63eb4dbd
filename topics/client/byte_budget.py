"""A bound on the bytes that wait to be sent, shared by threads and event loops.

First come, first served: a large image is not overtaken for ever by small ones.  No clock
and no Kafka: whoever wants room gets a future, and waits for it the way that it waits.
"""

import threading
from collections import deque
from concurrent.futures import Future

_GRANTED: Future[None] = Future()
"""What is granted at once needs no future of its own: nobody waits for it."""
_GRANTED.set_result(None)


class ByteBudget:
    """Room for `max_bytes`.  Thread-safe.

    Rules, all of them:

    * What was granted is given back exactly once, with `release`.
    * Room is granted in the order in which it was asked for.
    * A request that is cancelled before it is granted holds nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._used = 0
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes that are granted and not released."""
        return self._used

    def reserve(self, size: int) -> Future[None]:
        """Ask for room; the future is done when it is granted.  `size` is at most the bound."""
        if not 0 < size <= self.max_bytes:
            raise ValueError(f"{size} bytes can never be granted out of {self.max_bytes}")
        with self._changed:
            if not self._waiting and self._used + size <= self.max_bytes:
                self._used += size
                return _GRANTED
            room: Future[None] = Future()
            self._waiting.append((size, room))
            self._grant()
        return room

    def withdraw(self, room: Future[None], size: int) -> None:
        """Give up on a reservation, whether it was granted meanwhile or not."""
        if not room.cancel():
            self.release(size)
            return
        with self._changed:
            self._grant()  # whoever stood behind it may go

    def release(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self._used -= size
            self._grant()
            if self._used == 0:
                self._changed.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Whether everything was released within this time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._used == 0, timeout_s)

    def _grant(self) -> None:
        while self._waiting:
            size, room = self._waiting[0]
            if room.cancelled():
                self._waiting.popleft()
                continue
            if self._used + size > self.max_bytes:
                return
            self._waiting.popleft()
            if room.set_running_or_notify_cancel():
                self._used += size
                room.set_result(None)
