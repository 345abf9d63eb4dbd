"""How a worker lives in its group: a rebalance waits for nobody, and a restart makes none.

Faust would wait, whenever partitions are given out anew, until all that a worker has begun is
done, and nobody has a partition meanwhile: dozens of images, or a result on its way to a broker
that stands still.  Here a worker forgets what it has begun.  Nothing of it was acknowledged, so
whoever gets the partition reads it again.

A worker that comes back under its name within its session is given what it had, and nobody else
notices, if it says of itself what it said before; so it says nothing that changes.  (A group
that learns of new partitions is another matter, see `on_partitions_assigned`.)
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import Producer as FaustProducer
from faust.transport.drivers.aiokafka import Transport as FaustTransport
from faust.types import TP

_FAUST = logging.getLogger("faust.group")
"""Faust's classes log by the name of a class's module, and what they say is not ours."""


class IdempotentProducer(FaustProducer):
    """Acknowledged by all replicas, and a retry of a send never appends twice."""

    logger = _FAUST

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def flush(self) -> None:
        """Nothing: an upload is acknowledged after its result is, so no commit waits for one."""


class ForgettingConsumer(FaustConsumer):
    """Does not wait for what was begun."""

    logger = _FAUST
    transport: "GroupTransport"

    async def wait_empty(self) -> None:
        """Forget it, and commit what was acknowledged.

        Faust calls this after it has shut its streams, and opens them when the partitions are
        given out: what is `unacked` from then on was read anew.
        """
        self.unacked.clear()
        self.transport.on_forgotten()
        await super().wait_empty()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Look for new partitions from now on, whoever leads the group.

        aiokafka lets its leader look; but one that came back under its name does not know that
        it leads, and what is added would have no worker until the next rebalance.
        """
        coordinator = self._thread._ensure_consumer()._coordinator
        if coordinator._group_subscription is None:
            coordinator._group_subscription = coordinator._subscription.topics
            coordinator._metadata_snapshot = coordinator._get_metadata_snapshot()
        await super().on_partitions_assigned(assigned, generation_id)


class GroupTransport(FaustTransport):
    """Faust's transport with these two."""

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
