"""The library that upstream services send images with.

The promise: an upload that gave a `Receipt` is on the brokers, in as many copies as their
durability demands, and yields exactly one result.  An upload that raised `Unavailable`
after it was handed over *may* be there all the same; sent again with the same idempotency
key and time it has the same id, and whoever reads results keeps one.

* Every in-sync broker must acknowledge; retries inside the library append once.
* Uploads have no key, and no order between them is promised.
* What waits to be sent is bounded in bytes; beyond that, senders wait.
* Nothing is sent that the pipeline would refuse for its first bytes, size or account.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from erasestream.schemas.errors import ClientClosed
from erasestream.schemas.ids import Lane
from erasestream.topics.client.upload_builder import Options, UploadFactory
from erasestream.topics.client.upload_sender import Receipt, SendingLimits, UploadSender
from erasestream.topics.kafka.connection import Cluster

__all__ = ["AsyncUploadProducer", "Receipt", "SendingLimits", "UploadProducer"]

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class UploadProducer:
    """Send images of one lane.  Thread-safe; may not cross a fork.

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

    The constructor asks the brokers whether this role may write and raises `Refused`
    (missing_certificate, certificate_refused, not_authorized, missing_topic) or
    `Unavailable`.  Leaving the block waits until everything sent is acknowledged.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        limits: SendingLimits | None = None,
        clock: Clock = _now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._factory = UploadFactory(lane=lane, clock=clock, random=random)
        self._sender = UploadSender(cluster, lane, limits=limits or SendingLimits())

    def send(
        self,
        image: bytes,
        *,
        account: str,
        reference: str | None = None,
        options: Options = None,
        idempotency_key: str | None = None,
        idempotency_time: datetime | None = None,
    ) -> Future[Receipt]:
        """Hand an image over; the future is done when the brokers have acknowledged it.

        The same account, `idempotency_key` and `idempotency_time` (now, if left out) give
        the upload the same id on every try.  `reference`, 1 to 128 characters of your own,
        comes back with the result.

        Raises at once: `InvalidImage` (empty, too_large, unsupported_format), `InvalidEvent`
        (invalid_account, invalid_options, invalid_event), `Unavailable` (queue_full) without
        room for `limits.max_wait_s`, `Refused` (closed, used_after_fork).
        Through the future: `Unavailable`, `Refused`.  Callbacks of the future run in the
        producer's own thread and must be short.
        """
        self._sender.check_usable()
        upload = self._factory.build(
            image,
            account=account,
            reference=reference,
            options=options,
            idempotency_key=idempotency_key,
            idempotency_time=idempotency_time,
        )
        prepared = self._sender.prepare(upload)
        room = self._sender.reserve(prepared.size)
        try:
            room.result(self._sender.limits.max_wait_s)
        except TimeoutError:
            self._sender.withdraw(room, prepared.size)
            raise self._sender.queue_full() from None
        except BaseException:  # an interrupt must not keep the room
            self._sender.withdraw(room, prepared.size)
            raise
        return self._sender.hand_over(prepared)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything sent so far is acknowledged or has failed.

        Raises `Unavailable` if that takes longer than `timeout_s` (or than the delivery
        timeout, when every future is done in any case).
        """
        self._sender.flush(self._sender.limits.delivery_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Wait until every future is done, then disconnect.  Closing twice is closing once."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncUploadProducer:
    """The same for asyncio: `send` is awaited, and waiting never blocks the loop.

        async with AsyncUploadProducer(cluster, Lane("shop")) as producer:
            receipt = await producer.send(image, account="acct-17", reference="listing-4711")
            print(receipt.upload_id, receipt.appended_at)

            async with asyncio.TaskGroup() as tasks:  # many at once
                for path in Path("photos").glob("*.jpg"):
                    tasks.create_task(producer.send(path.read_bytes(), account="acct-17"))

    Entering the block (or `open`) does what the constructor of the other does.  A task that
    is cancelled while it awaits the acknowledgement does not call the upload back.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        limits: SendingLimits | None = None,
        clock: Clock = _now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._limits = limits or SendingLimits()
        self._connect = partial(UploadSender, cluster, lane, limits=self._limits)
        self._factory = UploadFactory(lane=lane, clock=clock, random=random)
        self._opened: UploadSender | None = None

    async def open(self) -> Self:
        """Connect.  Raises as the constructor of `UploadProducer`."""
        self._opened = await asyncio.to_thread(self._connect)
        return self

    async def send(
        self,
        image: bytes,
        *,
        account: str,
        reference: str | None = None,
        options: Options = None,
        idempotency_key: str | None = None,
        idempotency_time: datetime | None = None,
    ) -> Receipt:
        """Send an image and wait for its acknowledgement.  Raises as `UploadProducer.send`."""
        sender = self._sender
        sender.check_usable()
        upload = self._factory.build(
            image,
            account=account,
            reference=reference,
            options=options,
            idempotency_key=idempotency_key,
            idempotency_time=idempotency_time,
        )
        prepared = sender.prepare(upload)
        room = sender.reserve(prepared.size)
        try:
            if not room.done():
                async with asyncio.timeout(self._limits.max_wait_s):
                    await asyncio.wrap_future(room)
        except TimeoutError:
            sender.withdraw(room, prepared.size)
            raise sender.queue_full() from None
        except BaseException:  # a cancelled task must not keep the room
            sender.withdraw(room, prepared.size)
            raise
        return await asyncio.wrap_future(sender.hand_over(prepared))

    async def close(self) -> None:
        """Wait until everything sent is acknowledged or has failed, then disconnect."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def _sender(self) -> UploadSender:
        if self._opened is None:
            raise ClientClosed("use `async with`, or await open() first")
        return self._opened
