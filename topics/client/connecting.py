"""Connecting for asyncio, in a thread that neither the event loop nor the program's end awaits."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

CONNECTING = "connecting"
"""Name of the thread."""


async def connect_in_thread(connect: Callable[[], T], *, release: Callable[[T], None]) -> T:
    """Return what `connect` returns, or raise what it raises.

    If the task is cancelled meanwhile, `release` gets the connection as soon as it is made.  It
    must not block: it may run in the event loop's thread.
    """
    connecting: Future[T] = Future()

    def run() -> None:
        if connecting.set_running_or_notify_cancel():  # from here on it cannot be cancelled
            try:
                connecting.set_result(connect())
            except BaseException as error:  # noqa: BLE001 (raised by the caller)
                connecting.set_exception(error)

    def release_connected(connecting: Future[T]) -> None:
        if not connecting.cancelled() and connecting.exception() is None:
            release(connecting.result())

    # asyncio's own threads are joined when its loop ends, however long the brokers are silent.
    threading.Thread(target=run, name=CONNECTING, daemon=True).start()
    try:
        return await asyncio.wrap_future(connecting)
    except BaseException:
        connecting.add_done_callback(release_connected)
        raise
