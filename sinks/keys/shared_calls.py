"""Calls that are made once for all threads that need the answer at the same time."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SharedCalls(Generic[K, T]):
    """Answers by key.  Thread-safe; keeps no answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[K, Future[T]] = {}

    def call(self, key: K, fetch: Callable[[], T]) -> T:
        """Return what `fetch` returns, or the answer of a call that has begun and not ended.

        Raises what the call raised, in all threads that waited for it.
        """
        with self._lock:
            running = self._running.get(key)
            if running is None:
                own = self._running[key] = Future[T]()
        if running is not None:
            return running.result()
        try:
            answer = fetch()
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            own.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._running[key]
