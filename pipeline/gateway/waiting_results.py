"""Results that requests wait for.  Any other result is dropped.

Two uploads can have the same id: the same Idempotency-Key with two images, at two gateways, or
before and after a restart.  By their references, no request gets the result of the other.

For one event loop.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from erasestream.pipeline.gateway.problems import HttpCode, reused_key, try_later
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.expired import Expired

Result = Cutout | Failure | Expired


class _Wait(NamedTuple):
    future: asyncio.Future[Result]
    reference: str | None


class WaitingResults:
    """Futures by account and id of the upload."""

    def __init__(self, most: int) -> None:
        """Have room for `most` uploads."""
        self._most = most
        self._waits = defaultdict[tuple[AccountId, UploadId], set[_Wait]](set)

    def __len__(self) -> int:
        """Return the number of uploads that are waited for."""
        return len(self._waits)

    def check_room(self) -> None:
        """Raise `Problem` (overloaded) if as many uploads are waited for as may be.

        More would only wait longer: the accepted ones are answered in time.
        """
        if len(self) >= self._most:
            raise try_later(HttpCode.OVERLOADED)

    @contextmanager
    def expecting(
        self, account: AccountId, upload_id: UploadId, reference: str | None
    ) -> Iterator[asyncio.Future[Result]]:
        """Yield the future of an upload's result.  Begin before the upload is sent.

        It raises `Problem` (idempotency_key_reused) if the id has the result of another upload.
        Raises `Problem` (overloaded), too: bodies of many more may have been read at once.
        """
        self.check_room()
        wait = _Wait(asyncio.get_running_loop().create_future(), reference)
        key = account, upload_id
        self._waits[key].add(wait)
        try:
            yield wait.future
        finally:
            self._waits[key].discard(wait)
            if not self._waits[key]:
                del self._waits[key]
            wait.future.cancel()

    def resolve(self, result: Result) -> None:
        """Give a result to those that wait for it."""
        for wait in self._waits.get((result.account, result.id), ()):
            if wait.future.done():
                continue
            if wait.reference == result.reference:
                wait.future.set_result(result)
            else:
                wait.future.set_exception(reused_key())

    def fail_all(self, error: Exception) -> None:
        """End all waits."""
        for waits in self._waits.values():
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(error)
