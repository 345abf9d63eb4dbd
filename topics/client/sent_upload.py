"""Futures of sent uploads, which record the failures that their owner has not looked at.

`close` raises these: an upload that was given up must not go unnoticed because its future was
dropped.  A failure is looked at once `result` or `exception` has returned or raised it.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import UploadId


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Position of an upload, and when the broker appended it: its 24 hours start there.

    `offset` is -1 if a retry found the record appended already, without its offset.
    """

    upload_id: UploadId
    partition: int
    offset: int
    appended_at: datetime


class UnseenFailures:
    """Number of failed uploads whose outcome was not looked at, and the first error.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # `take` is called by signal handlers, too
        self._count = 0
        self._first: ErasestreamError | None = None

    def add(self, error: ErasestreamError) -> None:
        """Count a failure."""
        with self._lock:
            self._count += 1
            self._first = self._first or error

    def looked_at(self) -> None:
        """Subtract one."""
        with self._lock:
            self._count -= 1

    def take(self) -> ErasestreamError | None:
        """Return one error for all, of the first one's class and code, and begin again."""
        with self._lock:
            count, first = self._count, self._first
            self._count, self._first = 0, None
        if not count or first is None:
            return None
        detail = f"{count} uploads failed unnoticed; one of them: {first.detail}"
        return type(first)(detail, code=first.code)


class SentUpload(Future[Receipt]):
    """The future of an upload that was sent; it cannot be cancelled."""

    def __init__(self, unseen: UnseenFailures) -> None:
        super().__init__()
        self._unseen: UnseenFailures | None = None
        self._failures = unseen
        self.set_running_or_notify_cancel()

    def fail(self, error: ErasestreamError) -> None:
        """Complete the future with an error, which counts as unseen until it is looked at."""
        self._failures.add(error)
        self._unseen = self._failures
        self.set_exception(error)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait, and return the error of a failed upload, or None."""
        error = super().exception(timeout)
        unseen, self._unseen = self._unseen, None
        if unseen is not None:
            unseen.looked_at()
        return error

    def result(self, timeout: float | None = None) -> Receipt:
        """Wait, and return the receipt, or raise the error of a failed upload."""
        self.exception(timeout)
        return super().result()
