"""Client library for sending images.

Delivery: an upload with a `Receipt` is on the brokers, in as many replicas as their durability
demands, and yields exactly one result.  An upload that raised `Unavailable` after it was sent
*may* have been appended; sent again with the same idempotency key and time it has the same id,
and consumers of results deduplicate by id.

* Every in-sync replica must acknowledge; retries inside the library append once.
* Uploads have no key, and their order is not guaranteed.
* The bytes that wait to be sent are bounded; beyond the bound, callers wait.
* Images that the pipeline would refuse for first bytes, size or account are not sent.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import ClientClosed
from erasestream.schemas.ids import Lane
from erasestream.topics.client.upload_builder import Options, UploadFactory
from erasestream.topics.client.upload_sender import Receipt, SendingLimits, UploadSender
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
    Leaving the block waits until every upload is acknowledged or has failed.
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
        self._factory = UploadFactory(lane=lane, now=now, random=random)
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
        """Send an image; the future is done once the brokers have acknowledged it.

        The same account, `idempotency_key` and `idempotency_time` (default: now) give the
        upload the same id on every retry.  `reference`, 1 to 128 characters of your own, is
        returned with the result.

        Raises at once: `InvalidImage` (empty, too_large, unsupported_format), `InvalidEvent`
        (invalid_account, invalid_options, invalid_event), `Unavailable` (queue_full) after
        `limits.max_wait_s` without room, `Refused` (closed, used_after_fork).
        Through the future: `Unavailable`, `Refused`.  The future's callbacks run in the
        producer's thread and must be short.
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
        """Wait until every future is done, then disconnect.  Idempotent."""
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
        self._factory = UploadFactory(lane=lane, now=now, random=random)
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
        """Send an image and await its acknowledgement.  Raises as `UploadProducer.send`."""
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
        with sender.reserving(prepared.size) as room:
            if not room.done():
                async with asyncio.timeout(self._limits.max_wait_s):
                    await asyncio.wrap_future(room)
        return await asyncio.wrap_future(sender.send(prepared))

    async def close(self) -> None:
        """Wait until every upload is acknowledged or has failed, then disconnect."""
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
