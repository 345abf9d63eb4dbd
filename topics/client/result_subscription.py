"""Client library for receiving results.

Delivery: every result of the lane is delivered to each group at least once, and once within a
session; a result that is not acknowledged is redelivered after a restart.

* Only committed results are read; a result is a `Cutout` or a `Failure`.
* Offsets are committed up to the first unacknowledged result of each partition.
* A record that this release cannot decode is counted and skipped.
* While brokers are unavailable the client retries and logs it once; refusals are raised.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import ClientClosed, Code
from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_consumer import Delivery, ReceivingLimits, ResultConsumer
from erasestream.topics.kafka.connection import Cluster

T = TypeVar("T")

__all__ = ["AsyncResultSubscription", "Delivery", "ReceivingLimits", "ResultSubscription"]

SLICE_S = 0.2
"""Longest single wait inside librdkafka: bounds how late `stop` is noticed."""


class ResultSubscription:
    """The results of one lane, for one group of readers that share them.

        with ResultSubscription(cluster, Lane("shop"), group="listings") as results:
            for delivery in results:
                match delivery.event:
                    case Cutout(reference=reference, data=data):
                        Path(f"cutouts/{reference}.png").write_bytes(data)
                    case Failure(reference=reference, code=code, sentence=sentence):
                        print(reference, code, sentence)
                delivery.ack()  # from here on it is never delivered again

    The constructor checks with the brokers that this role may read, and raises `Refused`
    (missing_certificate, certificate_refused, not_authorized, missing_topic) or `Unavailable`.
    A new group starts with the oldest result that is not deleted.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._consumer = ResultConsumer(
            cluster, lane, group=group, limits=limits or ReceivingLimits(), clock=clock
        )
        self._clock = clock
        self._stopped = threading.Event()
        self._closed = False
        self._one_caller = threading.Lock()

    @property
    def skipped(self) -> Mapping[Code, int]:
        """Number of skipped records that this release cannot decode, by code."""
        return dict(self._consumer.skipped)

    @property
    def duplicates(self) -> int:
        """Number of results that came again within this session and were not delivered again."""
        return self._consumer.duplicates

    def poll(self, timeout_s: float) -> Delivery | None:
        """Return the next result, or None if none came within the timeout.

        Raises `Refused` (not_authorized, missing_topic, closed).
        """
        deadline = Deadline(timeout_s, self._clock)
        while True:
            with self._one_caller:
                if self._closed:
                    raise ClientClosed
                delivery = self._consumer.poll(deadline.slice_s(SLICE_S))
            if delivery is not None:
                return delivery
            if self._stopped.is_set() or deadline.has_passed:
                return None

    def __iter__(self) -> Iterator[Delivery]:
        """Yield all results as they come, until `stop` is called."""
        while not self._stopped.is_set():
            delivery = self.poll(SLICE_S)
            if delivery is not None:
                yield delivery

    def stop(self) -> None:
        """End the iteration.  From any thread, or from a signal handler."""
        self._stopped.set()

    def close(self) -> None:
        """Commit everything acknowledged and leave the group.  Idempotent."""
        self._stopped.set()
        with self._one_caller:
            if self._closed:
                return
            self._closed = True
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncResultSubscription:
    """The same for asyncio: waiting never blocks the loop.

        async with AsyncResultSubscription(cluster, Lane("shop"), group="listings") as results:
            async for delivery in results:
                match delivery.event:
                    case Cutout(reference=reference, data=data):
                        await store(reference, data)
                    case Failure(reference=reference, sentence=sentence):
                        await report(reference, sentence)
                delivery.ack()

    Entering the block (or `open`) connects, like the constructor of `ResultSubscription`.  A
    task that is cancelled while it waits loses nothing: the next poll gets the result.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits | None = None,
    ) -> None:
        self._connect = partial(ResultSubscription, cluster, lane, group=group, limits=limits)
        self._opened: ResultSubscription | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{lane}.consumer")
        self._polling: asyncio.Future[Delivery | None] | None = None
        self._stopping = False

    async def open(self) -> Self:
        """Connect.  Raises as the constructor of `ResultSubscription`."""
        connecting = self._thread.submit(self._connect)
        try:
            self._opened = await asyncio.wrap_future(connecting)
        except BaseException:
            connecting.add_done_callback(_close_unclaimed)
            raise
        return self

    async def poll(self, timeout_s: float) -> Delivery | None:
        """Return the next result, or None if none came within the timeout.

        Raises `Refused` (not_authorized, missing_topic, closed).
        """
        deadline = Deadline(timeout_s, asyncio.get_running_loop().time)
        while True:
            polling = self._poll_in_thread()
            done, _ = await asyncio.wait([polling], timeout=deadline.remaining_s)
            # If another task waited for the same poll, the first one to run takes the result.
            if done and self._polling is polling:
                self._polling = None
                delivery = polling.result()
                if delivery is not None:
                    return delivery
            if deadline.has_passed or self._stopping:
                return None

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Yield all results as they come, until `stop` is called."""
        while not self._stopping:
            delivery = await self.poll(SLICE_S)
            if delivery is not None:
                yield delivery

    def stop(self) -> None:
        """End the iteration.  From any thread, or from a signal handler."""
        self._stopping = True
        if self._opened is not None:
            self._opened.stop()

    async def close(self) -> None:
        """Commit everything acknowledged and leave the group.  Idempotent."""
        self.stop()
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await self._run(opened.close)  # queued behind a running poll
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _poll_in_thread(self) -> asyncio.Future[Delivery | None]:
        """Return the running poll, or start one.  It outlives a cancelled task."""
        if self._opened is None:
            raise ClientClosed("not inside its `async with`")
        if self._polling is None:
            self._polling = self._run(partial(self._opened.poll, SLICE_S))
        return self._polling

    def _run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)


def _close_unclaimed(connecting: Future[ResultSubscription]) -> None:
    """Close a subscription that connected after its task had been cancelled."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
