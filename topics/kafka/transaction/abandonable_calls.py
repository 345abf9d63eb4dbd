"""Calls that may never come back, made by a thread that can be left behind."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future


class AbandonableExecutor:
    """Makes one call after another.  It does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], Future[object]]]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], object]) -> Future[object]:
        """What the call gives or raises, once it has come back."""
        answer: Future[object] = Future()
        self._calls.put((call, answer))
        return answer

    def _work(self) -> None:
        while True:
            call, answer = self._calls.get()
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 (whoever waits is told)
                answer.set_exception(error)
            else:
                answer.set_result(result)
