"""How a worker lives in its group: a rebalance waits for no image, and a restart makes none.

Faust would wait, whenever partitions are given out anew, until all that a worker has begun is
done, and nobody has a partition meanwhile: dozens of images, or a result on its way to a broker
that stands still.  Here a worker forgets what it has begun.  Nothing of it was acknowledged, so
whoever gets the partition reads it again.

A worker that comes back under its name within its session is given what it had, and nobody else
notices, if it says of itself what it said before; so it says nothing that changes.

Faust's book-keeping relies on a few things that are not so; each is put right where it says so.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import IllegalStateError
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import ConsumerRebalanceListener as FaustListener
from faust.transport.drivers.aiokafka import Producer as FaustProducer
from faust.transport.drivers.aiokafka import Transport as FaustTransport
from faust.types import TP

_FAUST = logging.getLogger("faust.group")
"""Faust's classes log by the name of a class's module, and what they say is not ours."""
_PAUSE_S = 0.1


class IdempotentProducer(FaustProducer):
    """Acknowledged by all replicas, and a retry of a send never appends twice."""

    logger = _FAUST

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def send(
        self, topic: str, key: Any, value: Any, partition: int | None, *more: Any, **named: Any
    ) -> Awaitable[Any]:
        """Send one record, once the client knows its partition: uploads may know theirs before."""
        client = self._ensure_producer()
        while partition not in (await client.partitions_for(topic) or ()):
            await client.client.force_metadata_update()
            await asyncio.sleep(_PAUSE_S)
        return await super().send(topic, key, value, partition, *more, **named)

    async def flush(self) -> None:
        """Nothing: an upload is acknowledged after its result is, so no commit waits for one."""


class CountingListener(FaustListener):
    """Told of assignments in the client's own thread.

    *Counts them.*  Faust tells what was read before an assignment by the group's generation; but
    a member that joins once more may be given the same one.

    *Lets every member look for new partitions.*  aiokafka lets its leader look; but one that came
    back under its name does not know that it leads, and what is added would have no worker until
    the next rebalance.
    """

    def __init__(self, thread: Any) -> None:
        super().__init__(thread)
        self._numbers = itertools.count(1)

    async def on_partitions_assigned(self, assigned: Iterable[tuple[str, int]]) -> None:
        """The partitions that are this member's from now on."""
        thread, number = self._thread, next(self._numbers)
        coordinator = thread._ensure_consumer()._coordinator
        if coordinator._group_subscription is None:
            coordinator._group_subscription = coordinator._subscription.topics
            coordinator._metadata_snapshot = coordinator._get_metadata_snapshot()
        thread.app.consumer_generation_id = number
        await thread.on_partitions_assigned({TP(*at) for at in assigned}, number)


class ForgettingConsumer(FaustConsumer):
    """Does not wait for what was begun."""

    logger = _FAUST
    transport: "GroupTransport"
    RebalanceListener: ClassVar[type[FaustListener]] = CountingListener

    async def wait_empty(self) -> None:
        """Forget it; when the worker ends, what was acknowledged is committed.

        Faust calls this after it has shut its streams, and opens them when the partitions are
        given out: what is `unacked` from then on was read anew.
        """
        self.unacked.clear()
        self.transport.on_forgotten()
        await super().wait_empty()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust looks only to log how far behind it is, and ends where no place is known.

        That is so while a broker is asked for it: Faust has an `AssertionError` then.
        """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to what is committed; to the beginning, where nothing is.

        aiokafka leaves a partition without a commit where it is, and something of it may have
        been read and dropped already.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        if never := [at for at, offset in committed.items() if not offset]:
            await self._thread.seek_to_beginning(*never)
        return committed

    async def perform_seek(self) -> None:
        """The same for Faust's book-keeping.

        Raises `IllegalStateError`, which Faust takes for another rebalance, if there was one
        meanwhile: Faust would let its streams read before they are where they shall be.
        """
        before = self.app.rebalancing_count
        await super().perform_seek()
        if self.app.rebalancing_count != before:
            raise IllegalStateError("the partitions are given out once more")


class GroupTransport(FaustTransport):
    """Faust's transport with these."""

    Consumer: ClassVar[type] = ForgettingConsumer
    Producer: ClassVar[type] = IdempotentProducer

    def __init__(self, url: Any, app: Any, *, on_forgotten: Callable[[], None]) -> None:
        """`on_forgotten` is called when everything was forgotten."""
        super().__init__(url, app)
        self.on_forgotten = on_forgotten


class ConstantAssignor(PartitionAssignor):
    """Gives out partitions without regard to who had which: a worker keeps nothing of them."""

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """What a worker says of itself."""
        said = self._metadata.dumps()
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), said)

    @property
    def _metadata(self) -> ClientMetadata:
        nothing = ClientAssignment(actives={}, standbys={})
        return ClientMetadata(assignment=nothing, url=str(self._url), changelog_distribution={})
