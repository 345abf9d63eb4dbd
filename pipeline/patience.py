"""Wait for what is away: the same again, for as long as it takes, saying so once."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from erasestream.schemas.errors import Unavailable

log = logging.getLogger(__name__)

RETRY_S = 1.0

T = TypeVar("T")


class Patience:
    """Calls again while something is away, unless the stage shall end."""

    def __init__(self, stopping: threading.Event, *, retry_s: float = RETRY_S) -> None:
        self._stopping = stopping
        self._retry_s = retry_s

    def call(self, attempt: Callable[[], T]) -> T:
        """What the attempt gives.  Raises `Unavailable` only if the stage shall end."""
        said = False
        while True:
            try:
                return attempt()
            except Unavailable as error:
                if self._stopping.is_set():
                    raise
                if not said:
                    log.warning("waiting", extra={"code": error.code, "reason": error.detail})
                    said = True
                self._stopping.wait(self._retry_s)
