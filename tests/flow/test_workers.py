"""Workers and their group: who comes back disturbs nobody, and new partitions find a worker."""

from collections.abc import Iterator
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


def start(flow: PipelineHarness) -> None:
    """Start the worker under the name that it always has."""
    flow.start_stages(["infer"], ERASESTREAM_STAGE__INSTANCE="1")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[PipelineHarness]:
    """A stack with a worker and no other stage."""
    flow = PipelineHarness(tmp_path)
    try:
        flow.start(stages=())
        start(flow)
        yield flow
    finally:
        flow.stop()


def upload_to(cluster: Cluster, partition: int) -> None:
    """Upload pictures of several accounts until one goes there."""
    producer = UploadProducer(cluster, BULK)
    try:
        accounts = (f"account-{number}" for number in range(100))
        sent = (producer.send(photo(), account=account).result(30) for account in accounts)
        assert any(receipt.partition == partition for receipt in sent)
    finally:
        producer.close()


def test_restart_makes_no_rebalance_and_new_partitions_find_the_worker(
    worker: PipelineHarness,
) -> None:
    """The one that leads the group comes back as a mere member, and looks all the same."""

    def rebalances() -> int:
        log = worker.stack.brokers[0].log.read_text()
        return sum("Preparing to rebalance group inference" in line for line in log.splitlines())

    def made_by_a_restart() -> int:
        before = rebalances()
        worker.stack.stage("infer").kill()
        start(worker)
        return rebalances() - before

    # On a busy machine it may be away for longer than its session.
    assert 0 in (made_by_a_restart() for _ in range(3))
    before = rebalances()

    admin = Admin(worker.stack.admin())
    for topic in (cutouts_of(BULK), uploads_of(BULK)):
        admin.client.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    upload_to(worker.stack.cluster, 1)
    added = Partition(cutouts_of(BULK), 1)
    eventually("a result in the new partition", lambda: OffsetQueries(admin).log_end(added))
    assert rebalances() > before
