"""Client library for sending images in asyncio: waiting never blocks the loop.

Delivery and errors are those of `UploadProducer`.
"""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self

from erasestream.schemas.clocks import Deadline, WallClock, utc_now
from erasestream.schemas.errors import ClientClosed
from erasestream.schemas.ids import Lane
from erasestream.topics.client.connecting import connect_in_thread
from erasestream.topics.client.image_source import ImageSource, read_image
from erasestream.topics.client.sent_upload import Receipt
from erasestream.topics.client.upload_builder import Options, UploadFactory
from erasestream.topics.client.upload_producer import noting, warn_unclosed
from erasestream.topics.client.upload_sender import SendingLimits, UploadSender
from erasestream.topics.kafka.connection import Cluster

__all__ = ["AsyncUploadProducer"]


class AsyncUploadProducer:
    """`UploadProducer` for asyncio: `send` is awaited, and waiting never blocks the loop.

        async with AsyncUploadProducer(cluster, Lane("shop")) as producer:
            receipt = await producer.send(image, account="acct-17", reference="listing-4711")
            print(receipt.upload_id, receipt.appended_at)

            async with asyncio.TaskGroup() as tasks:  # many at once
                for path in Path("photos").glob("*.jpg"):
                    tasks.create_task(producer.send(path.read_bytes(), account="acct-17"))

    Entering the block (or `open`) connects, like the constructor of `UploadProducer`.  Cancelling
    a task that awaits the acknowledgement does not cancel the upload.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        limits: SendingLimits | None = None,
        sealed: bool = True,
        now: WallClock = utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._limits = limits or SendingLimits()
        self._connect = partial(
            UploadSender, cluster, lane, limits=self._limits, sealed=sealed, now=now
        )
        self._factory = UploadFactory(
            lane=lane, now=now, random=random, max_image_bytes=self._limits.max_image_bytes
        )
        self._opened: UploadSender | None = None
        self._closed = False

    async def open(self) -> Self:
        """Connect.  Raises as the constructor of `UploadProducer`, and `Refused` (closed).

        Idempotent.  If it is cancelled, the connection is closed as soon as it is made.
        """
        self._check_open()
        if self._opened is not None:
            return self
        opened = await connect_in_thread(self._connect, release=UploadSender.begin_close)
        try:
            self._check_open()
        except ClientClosed:
            opened.begin_close()
            raise
        self._opened = opened
        return self

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed

    async def send(
        self,
        image: ImageSource,
        *,
        account: str,
        reference: str | None = None,
        options: Options = None,
        idempotency_key: str | None = None,
        idempotency_time: datetime | None = None,
        never_retain: bool = False,
    ) -> Receipt:
        """Send an image and await its acknowledgement.  Raises as `UploadProducer.send`."""
        sender = self._sender
        sender.check_usable()
        data = image if isinstance(image, bytes) else await asyncio.to_thread(read_image, image)
        upload = self._factory.build(
            data,
            account=account,
            reference=reference,
            options=options,
            idempotency_key=idempotency_key,
            idempotency_time=idempotency_time,
            never_retain=never_retain,
        )
        deadline = Deadline(self._limits.max_wait_s, time.monotonic)
        key = await sender.encoder.key_async(deadline)
        with sender.reserving(upload) as room:
            if not room.done():
                async with asyncio.timeout(deadline.remaining_s):
                    await asyncio.wrap_future(room)
            prepared = await sender.encoder.encode_async(upload, key)
        return await asyncio.wrap_future(sender.send(prepared))

    async def close(self) -> None:
        """Wait `limits.close_s` for acknowledgements, give up the rest, then disconnect.

        Idempotent.  Raises the error of uploads that failed and that no task awaited to the end.
        """
        await self._close(self._limits.close_s)

    async def _close(self, timeout_s: float) -> None:
        self._closed = True
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close, timeout_s)

    def __del__(self) -> None:
        opened: UploadSender | None = getattr(self, "_opened", None)
        if opened is not None and not opened.is_closed:
            warn_unclosed(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._close(self._limits.delivery_s)
            return
        with noting(error):
            await self.close()

    @property
    def _sender(self) -> UploadSender:
        self._check_open()
        if self._opened is None:
            raise ClientClosed("use `async with`, or await open() first")
        return self._opened
