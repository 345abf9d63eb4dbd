"""Results that requests wait for.  Any other result is dropped.

For one event loop.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.expired import Expired

Result = Cutout | Failure | Expired


class WaitingResults:
    """Futures by account and id of the upload."""

    def __init__(self) -> None:
        self._futures = defaultdict[tuple[AccountId, UploadId], set[asyncio.Future[Result]]](set)

    def __len__(self) -> int:
        """Return the number of uploads that are waited for."""
        return len(self._futures)

    @contextmanager
    def expecting(
        self, account: AccountId, upload_id: UploadId
    ) -> Iterator[asyncio.Future[Result]]:
        """Yield the future of an upload's result.  Begin before the upload is sent."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        key = account, upload_id
        self._futures[key].add(future)
        try:
            yield future
        finally:
            self._futures[key].discard(future)
            if not self._futures[key]:
                del self._futures[key]
            future.cancel()

    def resolve(self, result: Result) -> None:
        """Give a result to those that wait for it."""
        for future in self._futures.get((result.account, result.id), ()):
            if not future.done():
                future.set_result(result)

    def fail_all(self, error: Exception) -> None:
        """End all waits."""
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
