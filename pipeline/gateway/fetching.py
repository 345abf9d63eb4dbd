"""Fetch results in threads of their own: waiting never blocks the event loop.

A fetcher reads one result at a time; several are read at once.  An unavailable partition holds up
as many fetchers as ask for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from erasestream.pipeline.gateway.problems import of_error
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.result_fetcher import ResultFetcher
from erasestream.topics.index.table import Place

Result = Cutout | Failure | Expired
DROP_EVERY_S = 60.0
"""Interval at which dead keys are dropped."""

T = TypeVar("T")


class Fetching:
    """The fetchers of one event loop."""

    def __init__(self, fetchers: Sequence[ResultFetcher]) -> None:
        self._fetchers = fetchers
        self._threads = ThreadPoolExecutor(len(fetchers), "fetching")
        self._idle: asyncio.LifoQueue[ResultFetcher] = asyncio.LifoQueue()
        self._dropping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to drop dead keys."""
        for fetcher in self._fetchers:
            self._idle.put_nowait(fetcher)
        self._dropping = asyncio.create_task(self._drop_dead())

    async def fetch(self, place: Place, account: AccountId, upload_id: UploadId) -> Result | None:
        """Return the result at this place; None if it is deleted.  Raises `Problem`."""
        fetcher = await self._idle.get()
        fetching = asyncio.ensure_future(
            self._run(partial(fetcher.fetch, *place, account=account, upload_id=upload_id))
        )

        def release(done: asyncio.Future[Result | None]) -> None:
            """Take the fetcher back, also if the request was cancelled and looks at no error."""
            self._idle.put_nowait(fetcher)
            if not done.cancelled():
                done.exception()

        fetching.add_done_callback(release)
        try:
            return await asyncio.shield(fetching)
        except ErasestreamError as error:
            raise of_error(error) from error

    async def _drop_dead(self) -> None:
        while True:
            await asyncio.sleep(DROP_EVERY_S)
            for fetcher in self._fetchers:
                await self._run(fetcher.drop_dead)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        """Finish the fetches that are under way, and disconnect."""
        if self._dropping is not None:
            self._dropping.cancel()
        self._threads.shutdown()
        for fetcher in self._fetchers:
            fetcher.close()
