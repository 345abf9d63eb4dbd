"""The groups of routers and erasers: which member gets which partitions."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ERASER, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, revocations_of
from erasestream.topics.kafka.consumer.static_membership import member_settings
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.consumer import TransactionalConsumer
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture

POLL_S = 0.05
MEMBERS = 4


class Assigned:
    """Notes what one member has."""

    def __init__(self) -> None:
        self.partitions: list[Partition] = []

    def on_assigned(self, partitions: list[Partition]) -> None:
        self.partitions = partitions

    def on_revoked(self) -> None:
        self.partitions = []

    def on_out_of_range(self, at: Partition, offset: int | None) -> None:
        raise AssertionError(at, offset)


class Member(NamedTuple):
    """A member of the group: how it is polled, how it leaves, and what it has."""

    poll: Callable[[float], object]
    has: Callable[[], int]


@pytest.fixture
def topics(kafka: KafkaFixture, lane: Lane) -> list[str]:
    """Return the cut-outs of two lanes: four partitions in all."""
    return [cutouts_of(lane), cutouts_of(kafka.open_lane())]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def join(kafka: KafkaFixture, topics: list[str], opened: ExitStack, instance: str) -> Member:
    """Join as a router does."""
    consumer = TransactionalConsumer(
        connection=kafka.connection(ROUTER),
        topics=topics,
        instance=instance,
        errors=ClientErrorState(),
    )
    opened.callback(consumer.close)
    assigned = Assigned()
    consumer.subscribe(assigned)
    return Member(consumer.read, lambda: len(assigned.partitions))


def join_as_earlier_release(
    kafka: KafkaFixture, topics: list[str], opened: ExitStack, instance: str
) -> Member:
    """Join as routers did that know `range` only."""
    settings = member_settings(
        kafka.connection(ROUTER),
        ClientErrorState(),
        instance=instance,
        topics=topics,
    )
    consumer = Consumer(settings | {"partition.assignment.strategy": "range"})
    opened.callback(consumer.close)
    consumer.subscribe(topics)
    return Member(consumer.poll, lambda: len(consumer.assignment()))


def join_as_eraser(
    kafka: KafkaFixture, topics: list[str], opened: ExitStack, instance: str
) -> Member:
    """Join as an eraser does."""
    queue = WorkQueue(connection=kafka.connection(ERASER), topics=topics, instance=instance)
    opened.callback(queue.close)
    return Member(
        lambda wait_s: queue.read(timeout_s=wait_s, most=1),
        lambda: len(queue._assignment.partitions),
    )


def poll_until(members: list[Member], shares: list[int]) -> None:
    """Poll all members until they have this many partitions, in any order."""

    def have_them() -> bool:
        for member in members:
            member.poll(POLL_S)
        return sorted(member.has() for member in members) == shares

    eventually(f"the shares are {shares}", have_them, poll_s=0)


def test_no_member_is_idle_while_there_is_a_partition_for_it(
    kafka: KafkaFixture, topics: list[str], opened: ExitStack
) -> None:
    """Each lane has fewer partitions than there are members."""
    assert len(topics) * PARTITIONS == MEMBERS > PARTITIONS
    members = [join(kafka, topics, opened, f"even-{number}") for number in range(MEMBERS)]
    poll_until(members, [1] * MEMBERS)


def test_erasers_share_topics_of_one_partition_each(
    kafka: KafkaFixture, lane: Lane, opened: ExitStack
) -> None:
    """As the operators' revocations are: one for each lane."""
    topics = [revocations_of(lane), revocations_of(kafka.open_lane())]
    members = [join_as_eraser(kafka, topics, opened, f"even-{number}") for number in range(2)]
    poll_until(members, [1, 1])


def test_a_member_of_an_earlier_release_is_one_of_the_same_group(
    kafka: KafkaFixture, topics: list[str], opened: ExitStack
) -> None:
    """Until the last of them has left, all are assigned as it knows it, and some are idle."""
    earlier = join_as_earlier_release(kafka, topics, opened, "earlier")
    poll_until([earlier], [MEMBERS])
    members = [earlier, *(join(kafka, topics, opened, f"new-{n}") for n in range(MEMBERS - 1))]
    poll_until(members, [0, 0, 2, 2])
