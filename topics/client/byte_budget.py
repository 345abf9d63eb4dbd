"""Bound on the bytes that wait to be sent, shared by threads and event loops.

First come, first served: small images cannot overtake a large one without end.  No clock and no
Kafka: a caller gets a future for its room, and awaits it in its own way.
"""

import threading
from collections import deque
from concurrent.futures import Future

_GRANTED: Future[None] = Future()
"""Shared by all requests that are granted at once."""
_GRANTED.set_result(None)


class ByteBudget:
    """Room for `max_bytes`.  Thread-safe.

    Rules:

    * Granted room is released exactly once, with `release`.
    * Room is granted in the order of the requests.
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
        """Request room, at most `max_bytes`; the future is done when it is granted."""
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
        """Give up a reservation, whether it was granted meanwhile or not."""
        if not room.cancel():
            self.release(size)
            return
        with self._changed:
            self._grant()  # the next request may fit

    def release(self, size: int) -> None:
        """Release granted room."""
        with self._changed:
            self._used -= size
            self._grant()
            self._changed.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Return whether everything was released within this time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._used == 0, timeout_s)

    def wait_for_release(self, timeout_s: float) -> None:
        """Wait for a release, or the timeout.

        Releases get through even if a signal handler calls this that has interrupted another
        method: the wait gives the lock back, however often its thread holds it.
        """
        with self._changed:
            self._changed.wait(timeout_s)

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
