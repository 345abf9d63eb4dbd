"""Calls that may never return, made on a thread that can be abandoned."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future


class AbandonableExecutor:
    """Makes one call after the other.  Its thread does not keep the process from exiting."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], Future[object]] | None]
        self._calls = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], object]) -> Future[object]:
        """Return the future of a call's result or exception."""
        future: Future[object] = Future()
        self._calls.put((call, future))
        return future

    def close(self, timeout_s: float) -> bool:
        """End the thread after its current call; return whether it ended in time.

        A thread that did not is abandoned: it ends if its call ever returns.
        """
        self._calls.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (submitted := self._calls.get()) is not None:
            call, future = submitted
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 (raised to the caller by the future)
                future.set_exception(error)
            else:
                future.set_result(result)
