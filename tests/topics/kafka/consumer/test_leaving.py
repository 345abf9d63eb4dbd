"""Members that close while they join; in a process of their own, which a failure freezes."""

import multiprocessing
import random
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ERASER, ROUTER
from erasestream.topics.catalog.topic_names import consent_of, cutouts_of
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.consumer import TransactionalConsumer
from tests.kafka_fixture import KafkaFixture

CLOSES = 12
"""One in five to ten froze the process, before."""


class Listener:
    """Fails if it is assigned anything: its consumer never reads, and only closes."""

    def on_assigned(self, partitions: list[Partition]) -> None:
        raise AssertionError(partitions)

    def on_revoked(self) -> None: ...

    def on_out_of_range(self, at: Partition, offset: int | None) -> None: ...


def close_queues(cluster: Cluster, lane: Lane) -> None:
    _close_often(
        lambda: WorkQueue(
            connection=Connection(cluster=cluster, role=ERASER),
            topics=[consent_of(lane)],
            instance="leaves",
        )
    )


def close_transactional_consumers(cluster: Cluster, lane: Lane) -> None:
    def join() -> TransactionalConsumer:
        consumer = TransactionalConsumer(
            connection=Connection(cluster=cluster, role=ROUTER),
            topics=[cutouts_of(lane)],
            instance="leaves",
            errors=ClientErrorState(),
        )
        consumer.subscribe(Listener())
        return consumer

    _close_often(join)


def _close_often(join: Callable[[], WorkQueue | TransactionalConsumer]) -> None:
    """Close at any moment of the joining, most often when the assignment has just come."""
    for _ in range(CLOSES):
        with closing(join()):
            time.sleep(random.uniform(0.02, 0.2))


@pytest.mark.parametrize("close_often", [close_queues, close_transactional_consumers])
def test_a_member_that_closes_while_it_joins_leaves(
    kafka: KafkaFixture, lane: Lane, close_often: Callable[[Cluster, Lane], None]
) -> None:
    child = multiprocessing.get_context("spawn").Process(
        target=close_often, args=(kafka.cluster, lane)
    )
    child.start()
    try:
        child.join(180)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
