"""Client library for sending images.

Delivery: an upload with a `Receipt` is on the brokers, in as many replicas as their durability
demands, and yields exactly one result.  An upload that raised `Unavailable` after it was sent
*may* have been appended; sent again with the same idempotency key it has the same id, and
consumers of results deduplicate by id.

* An upload that was given up is reported: through its future, or, if that was not looked at, when
  its producer is closed.  A program that ends without closing has 10 s to deliver what waits; then
  it writes to standard error how many uploads are lost, and exits with status 120.
* Every in-sync replica must acknowledge; retries inside the library append once.
* Uploads have no key, and their order is not guaranteed.
* The bytes that wait to be sent are bounded; beyond the bound, callers wait.
* Images that the pipeline would refuse for first bytes, size or account are not sent.
"""

import asyncio
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import ClientClosed, ErasestreamError
from erasestream.schemas.ids import Lane
from erasestream.topics.client.connecting import connect_in_thread
from erasestream.topics.client.image_source import ImageSource, read_image
from erasestream.topics.client.sent_upload import Receipt
from erasestream.topics.client.upload_builder import Options, UploadFactory
from erasestream.topics.client.upload_sender import SendingLimits, UploadSender
from erasestream.topics.kafka.connection import Cluster

__all__ = ["AsyncUploadProducer", "Receipt", "SendingLimits", "UploadProducer"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class UploadProducer:
    """Sends the images of one lane.  Thread-safe; must not cross a fork.

        cluster = Cluster(
            bootstrap_servers=("kafka-1.example:9093",), identities=Path("identities")
        )
        with UploadProducer(cluster, Lane("shop")) as producer:
            sent = [
                producer.send(path.read_bytes(), account="acct-17", reference=path.stem)
                for path in Path("photos").glob("*.jpg")
            ]
            for future in sent:
                print(future.result().upload_id)

    The constructor checks with the brokers that this role may write, and raises `Refused`
    (missing_certificate, certificate_refused, not_authorized, missing_topic) or `Unavailable`.
    Leaving the block waits until every upload is acknowledged or has failed, and raises the error
    of uploads that failed and whose futures were not looked at.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        limits: SendingLimits | None = None,
        now: WallClock = _utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        limits = limits or SendingLimits()
        self._factory = UploadFactory(
            lane=lane, now=now, random=random, max_image_bytes=limits.max_image_bytes
        )
        self._sender = UploadSender(cluster, lane, limits=limits)

    def send(
        self,
        image: ImageSource,
        *,
        account: str,
        reference: str | None = None,
        options: Options = None,
        idempotency_key: str | None = None,
        idempotency_time: datetime | None = None,
    ) -> Future[Receipt]:
        """Send an image; the future is done once the brokers have acknowledged it.

        `image` is the image's own bytes, the path of its file, or a file that is open for reading
        bytes.  The same account and `idempotency_key` give the upload the same id on every retry;
        with an `idempotency_time`, the same three do.  `reference`, 1 to 128 characters of your
        own, is returned with the result.

        Raises at once: `InvalidImage` (empty, too_large, unsupported_format, missing_file,
        unreadable_file), `InvalidEvent` (invalid_account, invalid_options, invalid_event),
        `Unavailable` (queue_full) after
        `limits.max_wait_s` without room, `Refused` (closed, used_after_fork).
        Through the future: `Unavailable`, `Refused`.  The future's callbacks run in the
        producer's thread and must be short.
        """
        self._sender.check_usable()
        upload = self._factory.build(
            read_image(image),
            account=account,
            reference=reference,
            options=options,
            idempotency_key=idempotency_key,
            idempotency_time=idempotency_time,
        )
        prepared = self._sender.prepare(upload)
        with self._sender.reserving(prepared.size) as room:
            room.result(self._sender.limits.max_wait_s)
        return self._sender.send(prepared)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every upload sent so far is acknowledged or has failed.

        Raises `Unavailable` after `timeout_s`; by default after the delivery timeout, by which
        every future is done in any case.
        """
        self._sender.flush(self._sender.limits.delivery_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Wait `limits.close_s` for acknowledgements, give up the rest, then disconnect.

        From any thread, or from a signal handler.  Idempotent.
        Raises the error of uploads that failed and whose futures were not looked at.
        """
        self._sender.close(self._sender.limits.close_s)

    def __del__(self) -> None:
        # Uploads that wait are delivered, and then the sender's thread closes its client.
        sender: UploadSender | None = getattr(self, "_sender", None)  # None: it did not open
        if sender is not None and not sender.is_closed:
            _warn_unclosed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._sender.close(self._sender.limits.delivery_s)
            return
        with _noting(error):
            self.close()


class AsyncUploadProducer:
    """The same for asyncio: `send` is awaited, and waiting never blocks the loop.

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
        now: WallClock = _utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._limits = limits or SendingLimits()
        self._connect = partial(UploadSender, cluster, lane, limits=self._limits)
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
        )
        prepared = sender.prepare(upload)
        with sender.reserving(prepared.size) as room:
            if not room.done():
                async with asyncio.timeout(self._limits.max_wait_s):
                    await asyncio.wrap_future(room)
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
            _warn_unclosed(self)

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
        with _noting(error):
            await self.close()

    @property
    def _sender(self) -> UploadSender:
        self._check_open()
        if self._opened is None:
            raise ClientClosed("use `async with`, or await open() first")
        return self._opened


def _warn_unclosed(producer: object) -> None:
    message = f"unclosed {type(producer).__name__}: close it, or use a with block"
    warnings.warn(message, ResourceWarning, source=producer, stacklevel=3)


@contextmanager
def _noting(error: BaseException) -> Iterator[None]:
    """Add the failure of closing to the error that ended the block."""
    try:
        yield
    except ErasestreamError as failure:
        error.add_note(str(failure))
