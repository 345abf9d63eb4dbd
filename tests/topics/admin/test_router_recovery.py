"""Recovery of the router's offset from the last routed result, and from nothing else."""

import os
from contextlib import closing
from datetime import UTC, datetime

from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Failure
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.kafka_fixture import PARTITIONS, KafkaFixture

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def recover(kafka: KafkaFixture, lane: Lane) -> list[str]:
    catalog = kafka.catalog_of(lane)
    recovery = RouterRecovery(
        connection=kafka.connection(ADMIN), catalog=catalog, actor="operator:test"
    )
    with closing(recovery):
        return list(recovery.recover(lane))


def route(kafka: KafkaFixture, lane: Lane, topic_id: str, offsets: range, *, commit: bool) -> None:
    """Write results to partition 0 of ephemeral, in one transaction, as a router would."""
    settings = kafka.connection(ADMIN).settings(
        ClientErrorState(), transactional_id=f"test.{os.urandom(4).hex()}"
    )
    producer = Producer(settings)
    producer.init_transactions(20)
    producer.begin_transaction()
    for offset in offsets:
        event = Failure(
            id=new_upload_id(offset, os.urandom(10)),
            time=NOW,
            account=AccountId("acct"),
            position=Position(topic_id=topic_id, partition=0, offset=offset),
            uploaded_at=NOW,
            code="expired",
            sentence="Too old.",
        )
        wire = to_wire(event, source="/test")
        producer.produce(ephemeral_of(lane), wire.value, None, 0, headers=list(wire.headers))
    if commit:
        producer.commit_transaction(20)
    else:
        producer.flush(20)
        producer.abort_transaction(20)


def committed(kafka: KafkaFixture, lane: Lane, partition: int) -> tuple[int, str]:
    """Return offset and metadata of the router's group."""
    settings = kafka.connection(ADMIN).settings(ClientErrorState(), group_id=ROUTER)
    consumer = Consumer(settings)
    try:
        (found,) = consumer.committed([TopicPartition(cutouts_of(lane), partition)], 20)
        return found.offset, found.metadata
    finally:
        consumer.close()


def test_the_mark_is_the_last_committed_result(kafka: KafkaFixture, lane: Lane) -> None:
    """Aborted results and transaction markers after it do not count."""
    topic = uploads_of(lane)
    topic_id = kafka.offsets.topic_ids([topic])[topic]
    route(kafka, lane, topic_id, range(90), commit=True)
    route(kafka, lane, topic_id, range(90, 180), commit=False)
    wiped = Partition(cutouts_of(lane), 0)
    kafka.groups.commit(ROUTER, wiped, 5, metadata="")

    lines = recover(kafka, lane)

    assert committed(kafka, lane, 0) == (0, str(ReplayMark(topic_id=topic_id, offset=89)))
    assert committed(kafka, lane, 1) == (0, str(ReplayMark(topic_id=topic_id, offset=-1)))
    assert len(lines) == PARTITIONS
    assert "left unchanged" in lines[1]


def test_deleted_records_count_as_a_loss(kafka: KafkaFixture, lane: Lane) -> None:
    """They may have been deleted unread, so the router is made to find a loss before the start."""
    producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState()))
    for _ in range(5):
        producer.produce(cutouts_of(lane), b"x", None, 0)
    assert producer.flush(20) == 0
    broken = Partition(cutouts_of(lane), 0)
    kafka.delete_records({broken: 3})
    kafka.groups.commit(ROUTER, broken, 5, metadata="")
    lines = recover(kafka, lane)
    assert lines[0].startswith(f"{cutouts_of(lane)}/0: from 3 with mark")
    offset, metadata = committed(kafka, lane, 0)
    assert StartOffset(offset, metadata).within(
        kafka.offsets.log_start(Partition(cutouts_of(lane), 0))
    ) == StartOffset(3, metadata, after_loss=True)


def test_deleted_results_prove_that_what_is_left_was_not_routed(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """Nothing is left: the mark is before the first upload to come."""
    topic = uploads_of(lane)
    topic_id = kafka.offsets.topic_ids([topic])[topic]
    route(kafka, lane, topic_id, range(3), commit=True)
    kafka.delete_records({Partition(ephemeral_of(lane), 0): OFFSET_END})
    kafka.groups.commit(ROUTER, Partition(cutouts_of(lane), 0), 5, metadata="")
    recover(kafka, lane)
    assert committed(kafka, lane, 0) == (0, str(ReplayMark(topic_id=topic_id, offset=-1)))
