"""Workers in a real group: who has which partitions after others came, left or restarted."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from erasestream.pipeline.stages.inference.worker.broker_login import BrokerLogin
from erasestream.pipeline.stages.inference.worker.faust_app import create_app
from erasestream.pipeline.stages.inference.worker.partition_assignor import StickyAssignor
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import uploads_of
from tests.kafka_fixture import PARTITIONS, KafkaFixture

LANES = 3
POLL_S = 0.05
HEARTBEAT_MS = 200


class EarlierAssignor(PartitionAssignor):
    """The assignor of workers of earlier releases."""

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), self._metadata.dumps())

    @property
    def _metadata(self) -> ClientMetadata:
        empty = ClientAssignment(actives={}, standbys={})
        return ClientMetadata(assignment=empty, url=str(self._url), changelog_distribution={})


class Group:
    """A group of its own whose members read the uploads of some lanes."""

    numbers = itertools.count()

    def __init__(self, kafka: KafkaFixture, lanes: Iterable[Lane], opened: AsyncExitStack) -> None:
        self._kafka = kafka
        self._topics = [uploads_of(lane) for lane in lanes]
        self._name = f"assigned-{next(self.numbers)}"
        self._opened = opened

    async def join(
        self, instance: str | None = None, *, assignor: type[PartitionAssignor] = StickyAssignor
    ) -> AIOKafkaConsumer:
        """Start a member; it learns later what it has."""
        tls = self._kafka.connection(ADMIN).identity.ssl_context()
        app = create_app(
            bootstrap_servers=self._kafka.cluster.bootstrap_servers,
            login=BrokerLogin(tls, None),
            max_record_bytes=1,
            member=None,
            on_discarded=lambda: None,
        )
        member = AIOKafkaConsumer(
            *self._topics,
            bootstrap_servers=list(self._kafka.cluster.bootstrap_servers),
            security_protocol="SSL",
            ssl_context=tls,
            group_id=self._name,
            group_instance_id=instance,
            enable_auto_commit=False,
            heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=[assignor(app)],
        )
        self._opened.push_async_callback(member.stop)
        await member.start()
        return member


def owned(*members: AIOKafkaConsumer) -> list[set[TP]]:
    return [{TP(*at) for at in member.assignment()} for member in members]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit ends what never holds."""
    while not condition():  # noqa: ASYNC110 (members report nothing)
        await asyncio.sleep(POLL_S)


def are_shared(*members: AIOKafkaConsumer) -> bool:
    """Return whether these members have all partitions, evenly."""
    shares = owned(*members)
    counts = [len(share) for share in shares]
    return (
        sum(counts) == len(set().union(*shares)) == LANES * PARTITIONS
        and max(counts) - min(counts) <= 1
    )


def have_all(members: Sequence[AIOKafkaConsumer]) -> bool:
    """Return whether these members have all partitions, evenly or not, since the last rebalance."""
    generations = {member._coordinator.generation for member in members}
    return len(generations) == 1 and sum(map(len, owned(*members))) == LANES * PARTITIONS


@asynccontextmanager
async def opened_group(kafka: KafkaFixture) -> AsyncIterator[Group]:
    async with AsyncExitStack() as opened:
        yield Group(kafka, [kafka.open_lane() for _ in range(LANES)], opened)


async def test_members_share_single_partitions_and_keep_them(kafka: KafkaFixture) -> None:
    """Six partitions of three lanes: more members have some than a lane has partitions."""
    async with opened_group(kafka) as group:
        first = await group.join()
        await until(lambda: are_shared(first))
        second, third = await group.join(), await group.join()
        await until(lambda: are_shared(first, second, third))
        assert LANES > PARTITIONS
        before = owned(first, second)
        await third.stop()
        await until(lambda: are_shared(first, second))
        assert all(old < new for old, new in zip(before, owned(first, second), strict=True))


async def test_a_restart_under_a_static_name_causes_no_rebalance(kafka: KafkaFixture) -> None:
    """Although the new process joins without the partitions that the old one had."""
    async with opened_group(kafka) as group:
        first, second = await group.join("a"), await group.join("b")
        await until(lambda: are_shared(first, second))
        third = await group.join("c")
        await until(lambda: are_shared(first, second, third))
        before, generation = owned(first, second, third), first._coordinator.generation
        await third.stop()
        again = await group.join("c")
        await until(lambda: are_shared(first, second, again))
        assert owned(first, second, again) == before
        assert first._coordinator.generation == again._coordinator.generation == generation


@pytest.mark.parametrize(
    "releases", [(EarlierAssignor, StickyAssignor), (StickyAssignor, EarlierAssignor)]
)
async def test_workers_of_an_earlier_release_are_members_of_the_same_group(
    kafka: KafkaFixture, releases: tuple[type[PartitionAssignor], type[PartitionAssignor]]
) -> None:
    """Whichever release leads assigns for both: until the last worker of the earlier one left."""
    async with opened_group(kafka) as group:
        leader = await group.join(assignor=releases[0])
        await until(lambda: are_shared(leader))
        follower = await group.join(assignor=releases[1])
        await until(lambda: are_shared(leader, follower))
        newest = await group.join()
        members = [leader, follower, newest]
        await until(lambda: have_all(members))
        earlier = members.pop(releases.index(EarlierAssignor))
        await earlier.stop()
        await until(lambda: are_shared(*members))
