"""The library that results are received with.

The promise: every result of the lane is delivered to each group at least once, and once
within a session; a result that is not acknowledged is delivered again after a restart.

* Only committed results are read; a result is a `Cutout` or a `Failure`.
* Offsets are committed up to the first result that is not acknowledged, in each partition.
* A record that this release can not read is counted and passed over; it stops nothing.
* Brokers that are away are waited for, and that is said once; what they refuse is raised.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from erasestream.schemas.errors import ClientClosed, Code
from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_consumer import Delivery, ReceivingLimits, ResultConsumer
from erasestream.topics.kafka.connection import Cluster

T = TypeVar("T")

__all__ = ["AsyncResultSubscription", "Delivery", "ReceivingLimits", "ResultSubscription"]

SLICE_S = 0.2
"""Longest single wait inside librdkafka: how fast `stop` is noticed."""


class ResultSubscription:
    """The results of one lane, for one group of readers that share them.

        with ResultSubscription(cluster, Lane("shop"), group="listings") as results:
            for delivery in results:
                match delivery.event:
                    case Cutout(reference=reference, data=data):
                        Path(f"cutouts/{reference}.png").write_bytes(data)
                    case Failure(reference=reference, code=code, sentence=sentence):
                        print(reference, code, sentence)
                delivery.ack()  # only now is it never delivered again

    The constructor asks the brokers whether this role may read and raises `Refused`
    (missing_certificate, certificate_refused, not_authorized, missing_topic) or
    `Unavailable`.  A new group starts with the oldest result that is still there.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        group: str,
        limits: ReceivingLimits | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receiver = ResultConsumer(
            cluster,
            lane,
            group=group,
            limits=limits or ReceivingLimits(),
            monotonic_s=monotonic_s,
        )
        self._monotonic_s = monotonic_s
        self._stopped = threading.Event()
        self._closed = False
        self._one_caller = threading.Lock()

    @property
    def skipped(self) -> Mapping[Code, int]:
        """Records that this release can not read and that were passed over, by code."""
        return dict(self._receiver.skipped)

    @property
    def duplicates(self) -> int:
        """Results that came again within this session and were not delivered again."""
        return self._receiver.duplicates

    def poll(self, timeout_s: float) -> Delivery | None:
        """The next result, or None if none came within the timeout.

        Raises `Refused` (not_authorized, missing_topic, closed).
        """
        end_s = self._monotonic_s() + timeout_s
        while True:
            left_s = end_s - self._monotonic_s()
            with self._one_caller:
                if self._closed:
                    raise ClientClosed
                delivery = self._receiver.receive(max(0.0, min(left_s, SLICE_S)))
            if delivery is not None:
                return delivery
            if self._stopped.is_set() or self._monotonic_s() >= end_s:
                return None

    def __iter__(self) -> Iterator[Delivery]:
        """All results, as they come, until `stop` is called."""
        while not self._stopped.is_set():
            delivery = self.poll(SLICE_S)
            if delivery is not None:
                yield delivery

    def stop(self) -> None:
        """Let the iteration end.  From any thread, or from a signal handler."""
        self._stopped.set()

    def close(self) -> None:
        """Commit what is acknowledged and leave the group.  Closing twice is closing once."""
        self._stopped.set()
        with self._one_caller:
            if self._closed:
                return
            self._closed = True
            self._receiver.close()

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

    Entering the block (or `open`) does what the constructor of the other does.  A task that
    is cancelled while it waits loses nothing: what came meanwhile is delivered next.
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
        self._opened = await self._run(self._connect)
        return self

    async def poll(self, timeout_s: float) -> Delivery | None:
        """The next result, or None if none came within the timeout.

        Raises `Refused` (not_authorized, missing_topic, closed).
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while True:
            polling = self._poll_in_thread()
            done, _ = await asyncio.wait([polling], timeout=max(0.0, end_s - loop.time()))
            # Another task may have waited for the same poll; then the result is its own.
            if done and self._polling is polling:
                self._polling = None
                delivery = polling.result()
                if delivery is not None:
                    return delivery
            if loop.time() >= end_s or self._stopping:
                return None

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """All results, as they come, until `stop` is called."""
        while not self._stopping:
            delivery = await self.poll(SLICE_S)
            if delivery is not None:
                yield delivery

    def stop(self) -> None:
        """Let the iteration end.  From any thread, or from a signal handler."""
        self._stopping = True
        if self._opened is not None:
            self._opened.stop()

    async def close(self) -> None:
        """Commit what is acknowledged and leave the group.  Closing twice is closing once."""
        self.stop()
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await self._run(opened.close)  # waits its turn behind a poll that is under way
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _poll_in_thread(self) -> asyncio.Future[Delivery | None]:
        """The poll that is under way, or a new one.  It outlives a task that is cancelled."""
        if self._opened is None:
            raise ClientClosed("not inside its `async with`")
        if self._polling is None:
            self._polling = self._run(partial(self._opened.poll, SLICE_S))
        return self._polling

    def _run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
