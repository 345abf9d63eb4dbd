"""Watch the memory of a process and of its descendants from outside."""

import threading
from types import TracebackType
from typing import Self

import psutil

EVERY_S = 0.2


class MemoryWatch:
    """Samples resident memory five times a second while the block runs."""

    def __init__(self, pid: int) -> None:
        self.worker_mb = 0.0
        """Peak resident memory of the process itself."""
        self.child_mb = 0.0
        """Peak resident memory of any descendant."""
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            try:
                self.worker_mb = max(self.worker_mb, resident_mb(self._process))
                below = self._process.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            self.child_mb = max(self.child_mb, *map(resident_mb, below), 0.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()


def resident_mb(process: psutil.Process) -> float:
    """Return the resident memory of a process in MB; 0 if it has ended."""
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0
