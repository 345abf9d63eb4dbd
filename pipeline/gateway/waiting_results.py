"""Results that requests wait for.  Any other result is dropped.

Two uploads can have the same id: the same Idempotency-Key with two images, at two gateways, or
before and after a restart.  By their references, no request gets the result of the other.

For one event loop.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from erasestream.pipeline.gateway.problems import HttpCode, reused_key, try_later
from erasestream.topics.index.records import REFERENCE_BYTES
from erasestream.topics.index.table import NO_REFERENCE, Image


def short_reference(reference: str | None) -> bytes:
    """Return what the index has of a reference."""
    if reference is None:
        return NO_REFERENCE
    return hashlib.sha256(reference.encode()).digest()[:REFERENCE_BYTES]


class _Wait(NamedTuple):
    future: asyncio.Future[Image]
    reference: bytes


class WaitingResults:
    """Futures by the keys of the images."""

    def __init__(self, most: int) -> None:
        """Have room for `most` uploads."""
        self._most = most
        self._waits = defaultdict[bytes, set[_Wait]](set)

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
    def expecting(self, key: bytes, reference: str | None) -> Iterator[asyncio.Future[Image]]:
        """Yield the future of an image with a result.  Begin before the upload is sent.

        It raises `Problem` (idempotency_key_reused) if the id has the result of another upload.
        Raises `Problem` (overloaded), too: bodies of many more may have been read at once.
        """
        self.check_room()
        future = asyncio.get_running_loop().create_future()
        wait = _Wait(future, short_reference(reference))
        self._waits[key].add(wait)
        try:
            yield future
        finally:
            self._waits[key].discard(wait)
            if not self._waits[key]:
                del self._waits[key]
            future.cancel()

    def resolve(self, key: bytes, image: Image) -> None:
        """Tell those that wait for an image that it has a result."""
        for wait in self._waits.get(key, ()):
            if wait.future.done():
                continue
            if wait.reference == image.reference:
                wait.future.set_result(image)
            else:
                wait.future.set_exception(reused_key())

    def fail_all(self, error: Exception) -> None:
        """End all waits."""
        for waits in self._waits.values():
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(error)
