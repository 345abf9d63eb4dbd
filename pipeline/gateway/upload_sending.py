"""Send the uploads of a gateway: one with an Idempotency-Key once, as far as is known.

For one event loop.
"""

import asyncio
import os
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.gateway.image_index import ImageIndex
from erasestream.pipeline.gateway.known_uploads import KnownUploads, digest_of
from erasestream.pipeline.gateway.problems import of_error
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import ErasestreamError, InvalidInput
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.catalog.retention_budget import JUDGED_TO_APPENDED_S
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.upload_builder import idempotent_id
from erasestream.topics.index.table import Image


class Asked(NamedTuple):
    """The wishes of a request about its image."""

    account: AccountId
    options: CutoutOptions
    idempotency_key: str | None
    never_retain: bool


class NamedUpload(NamedTuple):
    """An upload with its id, which is known before it is sent.  `digest`: if it has a key."""

    id: UploadId
    key: bytes
    """That of the index."""
    digest: str | None
    asked: Asked
    idempotency_key: str
    time: datetime | None


class UploadSending:
    """Sends with a producer, which it opens and closes."""

    def __init__(
        self, lane: Lane, producer: AsyncUploadProducer, index: ImageIndex, *, now: WallClock
    ) -> None:
        self._lane = lane
        self._producer = producer
        self._index = index
        self._now = now
        self._known = KnownUploads()

    async def open(self) -> None:
        """Connect.  Raises `Refused` or `Unavailable`."""
        await self._producer.open()

    async def named(self, image: bytes, asked: Asked) -> NamedUpload:
        """Return the upload of an image."""
        account, options, key, never_retain = asked
        time: datetime | None = None
        digest: str | None = None
        if key is None:
            # A key of its own: the id must be known, and waited for, before the upload is sent.
            key, time = os.urandom(16).hex(), self._now()
        else:
            digest = await asyncio.to_thread(digest_of, image, options, never_retain=never_retain)
        upload_id = idempotent_id(self._lane, account, key, time)
        return NamedUpload(upload_id, self._index.key(account, upload_id), digest, asked, key, time)

    async def known(self, upload: NamedUpload) -> Image | None:
        """Return the image of an upload that has a result; None if it is to be sent.

        Raises `Problem`, as `KnownUploads.begin`.
        """
        if upload.digest is None:
            return None
        image = await self._index.current(upload.asked.account, upload.id)
        return self._known.begin(upload.key, upload.digest, self._now(), image=image)

    async def send(self, image: bytes, upload: NamedUpload) -> datetime:
        """Send an upload, and return when it was appended.  Raises `Problem`.

        If this is cancelled, it may be appended until the producer gives it up.
        """
        try:
            receipt = await self._producer.send(
                image,
                account=upload.asked.account,
                reference=upload.digest,
                options=upload.asked.options,
                idempotency_key=upload.idempotency_key,
                idempotency_time=upload.time,
                never_retain=upload.asked.never_retain,
            )
        except ErasestreamError as error:
            is_unsent = isinstance(error, InvalidInput)
            undo = self._known.forget if is_unsent else self._known.release
            undo(upload.key)
            raise of_error(error) from error
        except asyncio.CancelledError:
            loop = asyncio.get_running_loop()
            loop.call_later(JUDGED_TO_APPENDED_S, self._known.release, upload.key)
            raise
        return receipt.appended_at

    def finish(self, key: bytes) -> None:
        """Note that an image has a result, which the index knows."""
        self._known.finish(key)

    async def close(self) -> None:
        """Disconnect; what is sent is acknowledged first."""
        with suppress(ErasestreamError):  # of an upload whose request was answered before
            await self._producer.close()
