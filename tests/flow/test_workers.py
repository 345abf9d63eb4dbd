"""Inference workers in their consumer group: restarts and new partitions."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions

from erasestream.topics.catalog.topic_names import cutouts_of, uploads_of
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.waiting import eventually

# Lines of the broker's group coordinator (Kafka 4.4).
REBALANCE = "Preparing to rebalance group inference"
SESSION_EXPIRED = "in group inference has failed, removing it from the group"
RESTARTS = 5
"""Restarts at most, until one is shorter than the session of ten seconds."""


def start(flow: PipelineHarness) -> None:
    """Start the worker under its fixed name, so that it is a static member."""
    flow.start_stages(["infer"], ERASESTREAM_STAGE__INSTANCE="1")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[PipelineHarness]:
    """Yield a stack with a worker and no other stage."""
    flow = PipelineHarness(tmp_path)
    try:
        flow.start(stages=())
        start(flow)
        yield flow
    finally:
        flow.stop()


def logged(flow: PipelineHarness, text: str) -> int:
    """Count the lines of the broker's log that contain this text."""
    log = flow.stack.brokers[0].log.read_text()
    return sum(text in line for line in log.splitlines())


def rebalances_of_a_restart(flow: PipelineHarness) -> int:
    """Restart the worker within its session and count the rebalances that this causes.

    A restart that takes longer, on a busy machine, proves nothing: the coordinator has removed
    the member and logged it, and must rebalance.  Only such a restart is repeated.
    """
    for _ in range(RESTARTS):
        rebalances, expiries = logged(flow, REBALANCE), logged(flow, SESSION_EXPIRED)
        flow.stack.stage("infer").kill()
        start(flow)
        if logged(flow, SESSION_EXPIRED) == expiries:
            return logged(flow, REBALANCE) - rebalances
    raise AssertionError(f"{RESTARTS} restarts each took longer than the session")


def upload_to(cluster: Cluster, partition: int) -> None:
    """Upload pictures of several accounts until one is appended to this partition.

    The brokers may take a moment to tell clients of a new partition.
    """
    numbers = count()
    with UploadProducer(cluster, BULK) as producer:

        def is_appended() -> bool:
            receipt = producer.send(photo(), account=f"account-{next(numbers)}").result(120)
            return receipt.partition == partition

        eventually("an upload is appended to it", is_appended, poll_s=0.1)


def test_restart_causes_no_rebalance_and_new_partitions_are_assigned(
    worker: PipelineHarness,
) -> None:
    """The former leader of the group rejoins as a plain member, but still finds new partitions."""
    assert rebalances_of_a_restart(worker) == 0
    before = logged(worker, REBALANCE)

    admin = Admin(worker.stack.admin())
    with admin.use() as client:
        for topic in (cutouts_of(BULK), uploads_of(BULK)):
            client.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    upload_to(worker.stack.cluster, 1)
    added = Partition(cutouts_of(BULK), 1)
    eventually("a result in the new partition", lambda: OffsetQueries(admin).log_end(added))
    assert logged(worker, REBALANCE) > before
