"""The core of the gateway: cut out an image for an account, and find it again by its id.

An upstream service like any other: it sends with `AsyncUploadProducer`.  The index of its lane
tells every gateway where each result is, whichever sent the image; it is fetched on demand.

Adapters call this and know nothing of Kafka; this knows nothing of HTTP but `Problem`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.gateway.fetching import Fetching, Result
from erasestream.pipeline.gateway.image_index import ImageIndex
from erasestream.pipeline.gateway.known_uploads import expired_key
from erasestream.pipeline.gateway.problems import deleted_image, of_error, of_failure, try_later
from erasestream.pipeline.gateway.upload_sending import Asked, UploadSending
from erasestream.pipeline.gateway.waiting_results import WaitingResults
from erasestream.schemas.clocks import Deadline, WallClock, utc_now
from erasestream.schemas.errors import Code, ErasestreamError, Unavailable
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.expired import Expired
from erasestream.topics.index.table import Image

CLOSE_S = 8.0
"""Time for requests in flight at the end; those that still wait then are answered 503."""


class Sent(NamedTuple):
    """An upload that is on the brokers, and the image of which the result is awaited.

    `image` is None if it had no result yet when it was sent.
    """

    id: UploadId
    account: AccountId
    at: datetime
    image: Image | None
    result: asyncio.Future[Image]
    deadline: Deadline
    """End of the time in which its request is answered, on the event loop's clock."""


class Finished(NamedTuple):
    """A cut-out, and what the index knows about it."""

    cutout: Cutout
    image: Image


class ImageCore:
    """Sends images and waits for their cut-outs, in one event loop."""

    def __init__(
        self,
        *,
        lane: Lane,
        producer: AsyncUploadProducer,
        index: ImageIndex,
        fetching: Fetching,
        wait_s: float,
        most: int,
        now: WallClock = utc_now,
    ) -> None:
        """Wait for `most` uploads at once, `wait_s` for each, its sending included."""
        self._sending = UploadSending(lane, producer, index, now=now)
        self._now = now
        self._fetching = fetching
        self.index = index
        self.wait_s = wait_s
        self.waiting = WaitingResults(most)

    async def open(self) -> None:
        """Connect, and begin to follow the index.  Raises `Refused` or `Unavailable`."""
        await self._sending.open()
        self._fetching.open()
        self.index.open(self._on_result)

    def _on_result(self, key: bytes, image: Image) -> None:
        self._sending.finish(key)
        self.waiting.resolve(key, image)

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the following of the index; None while it goes on."""
        return self.index.failure

    def check_room(self) -> None:
        """Raise `Problem` (unavailable, overloaded) if no image can be taken now."""
        self.index.check_loaded()
        self.waiting.check_room()

    @asynccontextmanager
    async def sending(
        self,
        image: bytes,
        *,
        account: AccountId,
        options: CutoutOptions,
        idempotency_key: str | None = None,
        never_retain: bool = False,
    ) -> AsyncIterator[Sent]:
        """Send an image; until the block ends, its result can be waited for.

        Not sent again is one that has a result for the same key.  Raises `Problem`; `unavailable`
        if it is not on the brokers within the time of a request.
        """
        deadline = Deadline(self.wait_s, asyncio.get_running_loop().time)
        asked = Asked(account, options, idempotency_key, never_retain)
        upload = await self._sending.named(image, asked)
        with self.waiting.expecting(upload.key, upload.digest) as result:
            try:
                async with asyncio.timeout(deadline.remaining_s):
                    known = await self._sending.known(upload)
                    at = self._now() if known else await self._sending.send(image, upload)
            except TimeoutError:
                raise try_later() from None
            yield Sent(upload.id, account, at, known, result, deadline)

    async def finish(self, sent: Sent, wait_s: float) -> Finished | None:
        """Wait for the result of an upload, and fetch it; None if that takes longer.

        Never longer than the time that its request has left.  Raises `Problem`.
        """
        try:
            async with asyncio.timeout(sent.deadline.slice_s(wait_s)):
                image = sent.image or await sent.result
                if image.is_deleted:
                    raise deleted_image()
                result = await self.fetch(image, sent.account, sent.id)
        except TimeoutError:
            return None
        except ErasestreamError as error:
            raise of_error(error) from error
        if result is None or isinstance(result, Expired):
            raise expired_key()
        return Finished(cutout_in(result), image)

    async def fetch(self, image: Image, account: AccountId, upload_id: UploadId) -> Result | None:
        """Return the result of an image that has one; None if it is deleted.  Raises `Problem`."""
        if image.place is None or image.is_deleted:
            return None
        return await self._fetching.fetch(image.place, account, upload_id)

    async def close(self) -> None:
        """Disconnect; what is sent is acknowledged first."""
        try:
            await asyncio.to_thread(self.index.close)
        finally:
            self._fetching.close()
            await self._sending.close()

    def give_up(self) -> None:
        """End all waits: the gateway is about to close."""
        self.waiting.fail_all(Unavailable("closing"))


def cutout_in(result: Result) -> Cutout:
    """Return a result that is a cut-out.  Raises the `Problem` of any other."""
    match result:
        case Cutout():
            return result
        case Failure():
            raise of_failure(result.code, result.sentence)
    raise of_failure(Code.EXPIRED, result.sentence)
