"""Stores whose user is killed right after a number of operations."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from erasestream.sinks.buckets.object_store import ObjectInfo

T = TypeVar("T")


class Killed(BaseException):
    """The end of a process, which no code of its handles."""


class Lives:
    """Operations that are left, in all stores of one process and in all of its threads."""

    def __init__(self, count: float = math.inf) -> None:
        self.count = count
        self._lock = threading.Lock()

    def spend(self, operation: Callable[[], T]) -> T:
        """Do an operation; raise `Killed` after the last one, and do none after it."""
        with self._lock:
            if self.count <= 0:
                raise Killed
            self.count -= 1
            is_last = self.count == 0
        try:
            return operation()
        finally:
            if is_last:
                raise Killed


class MortalStore:
    """One of the stores."""

    def __init__(self, store: Any, lives: Lives) -> None:
        self._store = store
        self._lives = lives

    def read(self, name: str, max_bytes: int) -> bytes:
        return self._lives.spend(lambda: self._store.read(name, max_bytes))

    def exists(self, name: str) -> bool:
        return self._lives.spend(lambda: self._store.exists(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._lives.spend(lambda: [*self._store.list(prefix)]))

    def create(self, name: str, data: bytes, content_type: str) -> datetime | None:
        return self._lives.spend(lambda: self._store.create(name, data, content_type))

    def delete(self, name: str) -> None:
        self._lives.spend(lambda: self._store.delete(name))

    def delete_all(self, names: Sequence[str]) -> None:
        for name in names:  # killed, this leaves some of them
            self._lives.spend(lambda name=name: self._store.delete_all([name]))
