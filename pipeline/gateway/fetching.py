"""Fetch results again in a thread of their own: waiting never blocks the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from erasestream.pipeline.gateway.known_uploads import Place
from erasestream.pipeline.gateway.problems import of_error
from erasestream.pipeline.gateway.waiting_results import Result
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.result_fetcher import ResultFetcher

DROP_EVERY_S = 60.0
"""Interval at which dead keys are dropped."""

T = TypeVar("T")


class Fetching:
    """The fetcher of one event loop."""

    def __init__(self, fetcher: ResultFetcher) -> None:
        self._fetcher = fetcher
        self._thread = ThreadPoolExecutor(1, "fetching")
        self._dropping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to drop dead keys."""
        self._dropping = asyncio.create_task(self._drop_dead())

    async def fetch(self, place: Place, account: AccountId, upload_id: UploadId) -> Result | None:
        """Return the result at this place; None if it is deleted.  Raises `Problem`."""
        try:
            return await self._run(
                partial(self._fetcher.fetch, *place, account=account, upload_id=upload_id)
            )
        except ErasestreamError as error:
            raise of_error(error) from error

    async def _drop_dead(self) -> None:
        while True:
            await asyncio.sleep(DROP_EVERY_S)
            await self._run(self._fetcher.drop_dead)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Finish the fetch that is under way, and disconnect."""
        if self._dropping is not None:
            self._dropping.cancel()
        self._thread.shutdown()
        self._fetcher.close()
