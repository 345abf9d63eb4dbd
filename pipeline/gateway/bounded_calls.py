"""Calls that wait for brokers, in threads of their own, and no more of them than have room.

Those of the account page share these: while brokers do not answer, each takes a thread for its
whole timeout, and nothing else of the gateway must wait for one.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any, TypeVar

from erasestream.pipeline.gateway.problems import HttpCode, try_later

T = TypeVar("T")


class BoundedCalls:
    """Runs calls, `threads` at once and at most `most` with those that wait for a thread."""

    def __init__(self, name: str, *, threads: int = 16, most: int = 128) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._room = Semaphore(most)

    async def run(self, call: Callable[..., T], *given: Any, **named: Any) -> T:
        """Return what the call returns.  Raises `Problem` (overloaded) if there is no room."""
        if not self._room.acquire(blocking=False):
            raise try_later(HttpCode.OVERLOADED)
        future = self._threads.submit(call, *given, **named)
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish the calls that run, and drop those that wait."""
        self._threads.shutdown(cancel_futures=True)
