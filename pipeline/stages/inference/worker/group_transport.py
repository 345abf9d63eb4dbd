"""Group membership of a worker: a rebalance waits for no image, and a restart causes none.

At a rebalance Faust would finish everything that a worker has begun, while no member has any
partition: dozens of images, or a result on its way to a broker that does not respond.  Here a
worker discards what it has begun.  None of it was acknowledged, so the partition's next owner
reads it again.

A worker that rejoins under its static name within its session timeout gets its old partitions
without a rebalance.

Some assumptions of Faust's bookkeeping do not hold; each correction names the assumption.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread as FaustThread
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import ConsumerRebalanceListener as FaustListener
from faust.transport.drivers.aiokafka import Producer as FaustProducer
from faust.transport.drivers.aiokafka import Transport as FaustTransport
from faust.types import TP

from erasestream.pipeline.runtime.retry import PausedAttempts
from erasestream.pipeline.stages.inference.worker.broker_login import BrokerLogin

_FAUST = logging.getLogger("faust.group")
"""Faust's classes log under the name of a class's module, but these lines are Faust's."""
_RETRY_S = 0.1
FETCH_WAIT_MS = 100


class IdempotentProducer(FaustProducer):
    """Acknowledged by all replicas, and a retry of a send never appends twice."""

    logger = _FAUST
    transport: "GroupTransport"

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        self.transport.login.keep(producer.client)
        return producer

    async def send(
        self, topic: str, key: Any, value: Any, partition: int | None, *more: Any, **named: Any
    ) -> Awaitable[Any]:
        """Send a record, once the client knows its partition: the consumer may know it earlier."""
        client = self._ensure_producer()
        async for _ in PausedAttempts(_RETRY_S):
            if partition in (await client.partitions_for(topic) or ()):
                break
            await client.client.force_metadata_update()
        return await super().send(topic, key, value, partition, *more, **named)

    async def flush(self) -> None:
        """Do nothing: an upload is acknowledged after its result, so no commit waits for sends."""


class AssignmentListener(FaustListener):
    """Handles assignments, in the client's own thread.

    *It counts them.*  Faust tells records that were read before an assignment by the group's
    generation, but a member that joins again may get the same one.

    *It makes every member watch for new partitions.*  aiokafka makes the leader watch, but a leader
    that rejoined under its static name does not know that it leads, and new partitions would have
    no worker until the next rebalance.
    """

    def __init__(self, thread: Any) -> None:
        super().__init__(thread)
        self._numbers = itertools.count(1)

    async def on_partitions_assigned(self, assigned: Iterable[tuple[str, int]]) -> None:
        """Take over the partitions that are assigned to this member."""
        thread, number = self._thread, next(self._numbers)
        coordinator = thread._ensure_consumer()._coordinator
        if coordinator._group_subscription is None:
            coordinator._group_subscription = coordinator._subscription.topics
            coordinator._metadata_snapshot = coordinator._get_metadata_snapshot()
        thread.app.consumer_generation_id = number
        await thread.on_partitions_assigned({TP(*at) for at in assigned}, number)


class ClientThread(FaustThread):
    """Thread whose client lets a broker wait no longer than `FETCH_WAIT_MS` for records.

    aiokafka asks each broker one question at a time, about the partitions of which it holds no
    records.  While a broker waits for records of some, the others are not asked about: with
    Faust's 1.5 seconds, the uploads of one lane delay another's by as much.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        client = super()._create_worker_consumer(transport)
        client._fetch_max_wait_ms = FETCH_WAIT_MS
        transport.login.keep(client._client)
        return client


class DiscardingConsumer(FaustConsumer):
    """Consumer that discards events in progress at a rebalance."""

    logger = _FAUST
    transport: "GroupTransport"
    RebalanceListener: ClassVar[type[FaustListener]] = AssignmentListener

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._has_room = asyncio.Event()

    def _new_consumer_thread(self) -> FaustThread:
        return ClientThread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_drop(self, tp: TP) -> None:
        """Read a partition again that was full, at once: records of it may be there already."""
        super().on_buffer_drop(tp)
        self._has_room.set()
        with contextlib.suppress(RuntimeError):  # the client's thread has ended
            self._thread.thread_loop.call_soon_threadsafe(self._look_again)

    def _look_again(self) -> None:
        """Wake the reads that wait for a fetch, in the client's own thread."""
        if (client := self._thread._consumer) is not None:
            for waiter in client._fetcher._fetch_waiters:
                client._fetcher._notify(waiter)

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109
        """Wait until a partition has room, where Faust sleeps for a second."""
        self._has_room.clear()
        if self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            await self.wait(self._has_room.wait(), timeout=timeout)
            if not self._get_active_partitions():
                return {}, set()
        return await super()._wait_next_records(timeout)

    async def wait_empty(self) -> None:
        """Discard events in progress; when the worker ends, acknowledged ones are committed.

        Faust calls this after it has closed its streams, and opens them once partitions are
        assigned: events that are `unacked` from then on were read again.
        """
        self.unacked.clear()
        self.transport.on_discarded()
        self._buffered_partitions.clear()
        await super().wait_empty()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust only logs its lag here, and fails while no position is known.

        It raises `AssertionError` while a broker is still being asked for the position.
        """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets; to the beginning where there is none.

        aiokafka leaves the position of a partition without a commit unchanged, and records before
        it may have been read and discarded already.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        if never := [at for at, offset in committed.items() if not offset]:
            await self._thread.seek_to_beginning(*never)
        return committed

    async def perform_seek(self) -> None:
        """Seek in Faust's bookkeeping as well.

        Raises `IllegalStateError`, which Faust takes for another rebalance, if there was one
        meanwhile: Faust would let its streams read before the new positions are set.
        """
        before = self.app.rebalancing_count
        await super().perform_seek()
        if self.app.rebalancing_count != before:
            raise IllegalStateError("another rebalance has begun")


class GroupTransport(FaustTransport):
    """Faust's transport with this consumer and producer."""

    Consumer: ClassVar[type] = DiscardingConsumer
    Producer: ClassVar[type] = IdempotentProducer

    def __init__(
        self, url: Any, app: Any, *, login: BrokerLogin, on_discarded: Callable[[], None]
    ) -> None:
        """`on_discarded` is called when all events in progress were discarded."""
        super().__init__(url, app)
        self.login = login
        self.on_discarded = on_discarded
