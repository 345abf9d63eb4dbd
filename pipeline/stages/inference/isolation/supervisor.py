"""Keep worker processes running: replace each one that has ended.

* Starting fails as a whole: a process that does not start ends the others.
* A replacement that cannot be started is tried again, since the system may soon have room for
  it; the last error is reported, and the process is not replaced any more.
* Closing ends every process, those that are just being started included.
"""

import asyncio
import contextlib
from collections.abc import Callable

from erasestream.pipeline.runtime.retry import PausedAttempts
from erasestream.pipeline.stages.inference.isolation.launch import WorkerProcessSettings
from erasestream.pipeline.stages.inference.isolation.worker_process import WorkerProcess
from erasestream.schemas.errors import Refused

_START_ATTEMPTS = 3
_RETRY_S = 1.0


class Supervisor:
    """Worker processes with the same settings, each watched by a task."""

    def __init__(
        self,
        settings: WorkerProcessSettings,
        *,
        on_started: Callable[[WorkerProcess], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        """`on_failed` gets the error with which a process could not be replaced."""
        self._settings = settings
        self._on_started = on_started
        self._on_failed = on_failed
        self._processes: set[WorkerProcess] = set()
        self._watchers: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> frozenset[int]:
        """Ids of the running processes, without their children."""
        return frozenset(process.pid for process in self._processes)

    async def start(self, count: int) -> None:
        """Start processes, and return when all are ready.  Raises `Refused`, `OSError`."""
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(self.close)
            starts = (self._add() for _ in range(count))
            for outcome in await asyncio.gather(*starts, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            opened.pop_all()

    async def close(self) -> None:
        """Kill all processes, and wait until they have ended."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await asyncio.gather(*(process.end() for process in self._processes))
        self._processes.clear()

    async def _add(self) -> None:
        process = await WorkerProcess.start(self._settings)
        self._processes.add(process)
        self._on_started(process)
        watcher = asyncio.create_task(self._replace_when_gone(process))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._stop_watching)

    async def _replace_when_gone(self, process: WorkerProcess) -> None:
        await process.gone.wait()
        await process.end()
        self._processes.discard(process)
        async for _ in PausedAttempts(_RETRY_S, most=_START_ATTEMPTS - 1):
            with contextlib.suppress(Refused, OSError):
                await self._add()
                return
        await self._add()

    def _stop_watching(self, watcher: asyncio.Task[None]) -> None:
        self._watchers.discard(watcher)
        if not watcher.cancelled() and (error := watcher.exception()):
            self._on_failed(error)
