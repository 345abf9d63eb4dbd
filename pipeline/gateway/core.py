"""The core of the gateway: cut out an image for an account, and wait for the result.

An upstream service like any other: it sends with `AsyncUploadProducer`, and one
`AsyncResultSubscription` gives it all results of its lane.  Each gateway has a consumer group of
its own, because any of them may wait for any result.

Adapters call this and know nothing of Kafka; this knows nothing of HTTP but `Problem`.
"""

import asyncio
import os
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

from erasestream.pipeline.gateway.fetching import Fetching
from erasestream.pipeline.gateway.known_uploads import (
    KnownUploads,
    Place,
    digest_of,
    expired_key,
)
from erasestream.pipeline.gateway.problems import HttpCode, of_error, of_failure, problem
from erasestream.pipeline.gateway.recent_uploads import RecentUploads
from erasestream.pipeline.gateway.waiting_results import Result, WaitingResults
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import Code, ErasestreamError, InvalidInput, Unavailable
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.async_result_subscription import AsyncResultSubscription
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.upload_builder import idempotent_id

CLOSE_S = 8.0
"""Time for requests in flight at the end; those that still wait then are answered 503."""


class ImageCore:
    """Sends images and waits for their cut-outs, in one event loop."""

    def __init__(
        self,
        *,
        lane: Lane,
        producer: AsyncUploadProducer,
        results: AsyncResultSubscription,
        fetching: Fetching,
        wait_s: float,
        most: int,
        now: WallClock = utc_now,
    ) -> None:
        """Wait for `most` uploads at once, `wait_s` for each."""
        self._lane = lane
        self._producer = producer
        self._results = results
        self._wait_s = wait_s
        self._now = now
        self._reading: asyncio.Task[None] | None = None
        self._known = KnownUploads()
        self._fetching = fetching
        self.waiting = WaitingResults(most)
        self.recent = RecentUploads()

    async def open(self) -> None:
        """Connect, and begin to read results.  Raises `Refused` or `Unavailable`."""
        await self._producer.open()
        await self._results.open()
        self._reading = asyncio.create_task(self._read())
        self._fetching.open()

    async def _read(self) -> None:
        async for delivery in self._results:
            result = delivery.event
            place = Place(delivery.partition, delivery.offset)
            self._known.finish(result, place)
            self.waiting.resolve(result)
            self.recent.note(result.account, result.uploaded_at)
            delivery.ack()

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the reading of results; None while it goes on."""
        reading = self._reading
        if reading is None or not reading.done() or reading.cancelled():
            return None
        return reading.exception()

    async def cut_out(
        self,
        image: bytes,
        *,
        account: AccountId,
        options: CutoutOptions,
        idempotency_key: str | None = None,
        never_retain: bool = False,
    ) -> Cutout:
        """Return the cut-out of an image; the same again for the same key.

        Raises `Problem`: overloaded, that of a failed result, or of the way to it.
        """
        if idempotency_key is None:
            # A key of its own: the id must be known, and waited for, before the upload is sent.
            key, time, digest = os.urandom(16).hex(), self._now(), None
        else:
            key, time = idempotency_key, None
            digest = await asyncio.to_thread(digest_of, image, options, never_retain=never_retain)
        upload = _Upload(account, options, key, time, digest, never_retain)
        upload_id = upload.id(self._lane)
        with self.waiting.expecting(account, upload_id, upload.digest) as result:
            if upload.digest is not None:
                place = self._known.begin(account, upload_id, upload.digest, self._now())
                if place is not None:
                    return await self._fetch_again(place, account, upload_id)
            await self._send(image, upload, upload_id)
            return await self._cutout_in(result)

    async def _send(self, image: bytes, upload: "_Upload", upload_id: UploadId) -> None:
        try:
            await self._producer.send(
                image,
                account=upload.account,
                reference=upload.digest,
                options=upload.options,
                idempotency_key=upload.key,
                idempotency_time=upload.time,
                never_retain=upload.never_retain,
            )
        except ErasestreamError as error:
            is_unsent = isinstance(error, InvalidInput)
            undo = self._known.forget if is_unsent else self._known.release
            undo(upload.account, upload_id)
            raise of_error(error) from error

    async def _cutout_in(self, result: asyncio.Future[Result]) -> Cutout:
        try:
            async with asyncio.timeout(self._wait_s):
                return cutout_in(await result)
        except TimeoutError:
            pending = problem(HTTPStatus.GATEWAY_TIMEOUT, HttpCode.RESULT_PENDING)
            raise pending from None
        except ErasestreamError as error:
            raise of_error(error) from error

    async def _fetch_again(self, place: Place, account: AccountId, upload_id: UploadId) -> Cutout:
        result = await self._fetching.fetch(place, account, upload_id)
        if result is None or isinstance(result, Expired):
            raise expired_key()
        return cutout_in(result)

    async def close(self) -> None:
        """Disconnect; what is sent is acknowledged first."""
        try:
            if self._reading is not None:
                await self._results.close()
                await asyncio.gather(self._reading, return_exceptions=True)
        finally:
            self._fetching.close()
            await self._producer.close()

    def give_up(self) -> None:
        """End all waits: the gateway is about to close."""
        self.waiting.fail_all(Unavailable("closing"))


class _Upload(NamedTuple):
    account: AccountId
    options: CutoutOptions
    key: str
    time: datetime | None
    digest: str | None
    never_retain: bool

    def id(self, lane: Lane) -> UploadId:
        return idempotent_id(lane, self.account, self.key, self.time)


def cutout_in(result: Result) -> Cutout:
    """Return a result that is a cut-out.  Raises the `Problem` of any other."""
    match result:
        case Cutout():
            return result
        case Failure():
            raise of_failure(result.code, result.sentence)
    raise of_failure(Code.EXPIRED, result.sentence)
