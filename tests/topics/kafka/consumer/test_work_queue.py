"""A queue whose topics are paused in turn loses and repeats no record; on a real broker."""

from contextlib import closing

import pytest

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ERASER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of, uploads_of
from erasestream.topics.kafka.consumer import work_queue
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture

COUNT = 500


def test_a_paused_topic_is_not_read_until_it_is_resumed(kafka: KafkaFixture, lane: Lane) -> None:
    """Records that the client has fetched already are not delivered, and not lost either."""
    other = kafka.open_lane()
    for each in (lane, other):
        fill(kafka, each)
    topics = [consent_of(lane), consent_of(other)]
    queue = WorkQueue(connection=kafka.connection(ERASER), topics=topics, instance="pause")
    read: list[Record] = []

    def offsets(of: Lane) -> list[int]:
        return [record.offset for record in read if record.at.topic == consent_of(of)]

    def reads_all_of(of: Lane) -> bool:
        read.extend(queue.read(timeout_s=0.1, most=50))
        return len(offsets(of)) == COUNT

    try:
        eventually(
            "something is read", lambda: read.extend(queue.read(timeout_s=1, most=1)) or read
        )
        first = lane if offsets(lane) else other
        second = other if first == lane else lane
        queue.pause([consent_of(first)])
        before = len(offsets(first))
        eventually("the other topic is read", lambda: reads_all_of(second), poll_s=0)
        assert len(offsets(first)) == before
        queue.pause([])
        eventually("the first topic is read", lambda: reads_all_of(first), poll_s=0)
        assert offsets(first) == offsets(second) == list(range(COUNT))
    finally:
        queue.close()


def test_partitions_that_are_added_are_read_by_a_running_member(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `retained` can grow beside the sink."""
    monkeypatch.setattr(work_queue, "METADATA_S", 0.5)
    topic = uploads_of(lane)
    queue = WorkQueue(connection=kafka.connection(ADMIN), topics=[topic], instance="grown")
    with closing(queue):
        eventually("it joins", lambda: queue.read(timeout_s=0.1, most=1) or queue.has_joined)
        kafka.grown[lane] = PARTITIONS + 1
        kafka.provision(kafka.catalog())
        added = Partition(topic, PARTITIONS)
        with closing(
            AcknowledgedWriter(connection=kafka.connection(ADMIN), timeout_s=30)
        ) as writes:
            writes.write(added, b"key", Wire(headers=[], value=b"?"))
        (record,) = eventually("it is read", lambda: queue.read(timeout_s=0.1, most=1))
        assert record.at == added


def fill(kafka: KafkaFixture, lane: Lane) -> None:
    """Write records to one partition of the lane's decisions."""
    connection = kafka.connection(lane_role(lane, LaneRole.ACCOUNT))
    writes = AcknowledgedWriter(connection=connection, timeout_s=30)
    at, wire = Partition(consent_of(lane), 0), Wire(headers=[], value=b"?")
    answers = writes.write_all([(at, b"acct-%d" % number, wire) for number in range(COUNT)])
    assert all(answer.result() for answer in answers)
    writes.close()
