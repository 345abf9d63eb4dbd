"""The free children of a pool, for callers in the order in which they asked.

A queue of asyncio is not fair: a caller that returns a child and asks again at once gets it before
the one that was woken for it, which then waits behind all others.  Here a child is handed to the
first caller.
"""

import asyncio
from collections import deque

from erasestream.pipeline.stages.inference.isolation.worker_process import WorkerProcess
from erasestream.schemas.errors import ErasestreamError


class FreeChildren:
    """One entry per free child of a worker process.  For one event loop."""

    def __init__(self) -> None:
        self._free: deque[WorkerProcess] = deque()
        self._callers: deque[asyncio.Future[WorkerProcess]] = deque()
        self._error: ErasestreamError | None = None

    async def take(self) -> WorkerProcess:
        """Return the process of a free child; it has not ended.  Raises the error of `fail`."""
        while (process := await self._next()).gone.is_set():
            pass
        return process

    def add(self, process: WorkerProcess) -> None:
        """Give a child to the first caller."""
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_result(process)
                return
        self._free.append(process)

    def fail(self, error: ErasestreamError) -> None:
        """Refuse all callers, later ones included: there will be no more children."""
        self._error = error
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_exception(_copy(error))

    async def _next(self) -> WorkerProcess:
        if self._error:
            raise _copy(self._error)
        if self._free and not self._callers:
            return self._free.popleft()
        caller: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        try:
            return await caller
        except asyncio.CancelledError:
            if caller.done() and not caller.cancelled() and not caller.exception():
                self.add(caller.result())
            raise


def _copy(error: ErasestreamError) -> ErasestreamError:
    copied = type(error)(error.detail)
    copied.__cause__ = error
    return copied
