"""Wait for what is away: the same again, for as long as it takes, saying so once."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from erasestream.schemas.errors import Unavailable

log = logging.getLogger(__name__)

RETRY_S = 1.0

T = TypeVar("T")


class RetryUntilStopped:
    """Calls again while something is away, unless the stage shall end.  Thread-safe.

    Of all calls that wait at the same time one says so.
    """

    def __init__(self, stopping: threading.Event, *, retry_s: float = RETRY_S) -> None:
        self._stopping = stopping
        self._retry_s = retry_s
        self._lock = threading.Lock()
        self._waiting = 0

    def call(self, attempt: Callable[[], T]) -> T:
        """What the attempt gives.  Raises `Unavailable` only if the stage shall end."""
        try:
            return attempt()
        except Unavailable as error:
            self._say(error)
        try:
            return self._again(attempt)
        finally:
            with self._lock:
                self._waiting -= 1

    def _say(self, error: Unavailable) -> None:
        with self._lock:
            self._waiting += 1
            is_first = self._waiting == 1
        if is_first:
            log.warning("waiting", extra={"code": error.code, "reason": error.detail})

    def _again(self, attempt: Callable[[], T]) -> T:
        while True:
            self._stopping.wait(self._retry_s)
            try:
                return attempt()
            except Unavailable:
                if self._stopping.is_set():
                    raise
