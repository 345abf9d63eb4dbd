"""Client library for receiving results in asyncio: waiting never blocks the loop.

Delivery and errors are those of `ResultSubscription`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from erasestream.schemas.clocks import Deadline, WallClock, utc_now
from erasestream.schemas.errors import ClientClosed, Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.client.connecting import connect_in_thread
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_reader import ReceivingLimits, ResultReader
from erasestream.topics.client.result_subscription import SLICE_S, ResultSubscription, tell_lost
from erasestream.topics.client.subscription_controls import SubscriptionControls
from erasestream.topics.kafka.connection import Cluster

__all__ = ["AsyncResultSubscription"]


class AsyncResultSubscription(SubscriptionControls):
    """`ResultSubscription` for asyncio.

        async with AsyncResultSubscription(cluster, Lane("shop"), group="listings") as results:
            async for delivery in results:
                match delivery.event:
                    case Cutout(reference=reference, data=data):
                        await store(reference, data)
                    case Failure(reference=reference, sentence=sentence):
                        await report(reference, sentence)
                    case Expired(reference=reference):
                        await upload_again(reference)
                delivery.ack()

    Entering the block (or `open`) connects, like the constructor of `ResultSubscription`.  A
    task that is cancelled while it waits loses nothing: the next poll gets the result.  If it is
    cancelled while it connects, nothing stays open.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits | None = None,
        now: WallClock = utc_now,
    ) -> None:
        self._connect = partial(
            ResultSubscription, cluster, lane, group=group, limits=limits, now=now
        )
        self._opened: ResultSubscription | None = None
        self._news = asyncio.Event()
        self._is_closed = False
        self.is_stopped = False
        """Whether `stop` or `close` was called."""

    async def open(self) -> Self:
        """Connect.  Raises as the constructor of `ResultSubscription`, and `Refused` (closed)."""
        self._check_unopened()
        opened = await connect_in_thread(self._connect, release=ResultSubscription.begin_close)
        try:
            self._check_unopened()
        except Refused:  # while it was connecting
            opened.begin_close()
            raise
        self._opened = opened
        opened.reader.on_news(partial(_set, asyncio.get_running_loop(), self._news))
        return self

    def _check_unopened(self) -> None:
        if self._is_closed:
            raise ClientClosed("open() after close()")
        if self._opened is not None:
            raise Refused("open() was called already: call it once")

    def _connected(self) -> ResultReader:
        if self._opened is None:
            raise ClientClosed("use `async with`, or await open() first")
        return self._opened.reader

    async def poll(self, timeout_s: float) -> Delivery | None:
        """Return the next result, or None if none came within the timeout.

        Raises `Refused` (not_authorized, missing_topic, closed, used_after_fork).
        """
        reader = self._connected()
        reader.check_usable()
        if (delivery := reader.take()) is not None:
            return delivery
        deadline = Deadline(timeout_s, asyncio.get_running_loop().time)
        with reader.waiting():
            while not self._is_closed:
                self._news.clear()
                delivery = reader.take()
                if delivery is not None or deadline.has_passed or self.is_stopped:
                    return delivery
                await _wait(self._news, deadline)
        return None

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Yield all results as they come, until `stop` or `close` is called."""
        while not self.is_stopped:
            try:
                delivery = await self.poll(SLICE_S)
            except ClientClosed:
                if self.is_stopped:
                    return  # meanwhile, by another task
                raise
            if delivery is not None:
                yield delivery

    def stop(self) -> None:
        """End the iteration and waiting polls.  From any thread, or from a signal handler."""
        self.is_stopped = True
        if self._opened is not None:
            self._opened.stop()

    async def close(self) -> None:
        """Commit everything acknowledged and leave the group, as `ResultSubscription.close`."""
        self.stop()
        self._is_closed = True
        opened = self._opened
        if opened is None:
            return
        opened.reader.queue.check_process()
        opened.begin_close()
        reader = opened.reader
        deadline = Deadline(reader.close_s, asyncio.get_running_loop().time)
        while not (reader.has_ended or deadline.has_passed):
            self._news.clear()
            if not reader.has_ended:
                await _wait(self._news, deadline)
        reader.check_committed()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except Unavailable as lost:
            if error is None:
                raise
            tell_lost(lost, error)


async def _wait(news: asyncio.Event, deadline: Deadline) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(deadline.slice_s(SLICE_S)):
            await news.wait()


def _set(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is closed, and no task waits
        loop.call_soon_threadsafe(news.set)
