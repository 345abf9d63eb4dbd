"""The encryption stage on a real broker, whose consent view gets an outdated mark."""

import threading
from contextlib import closing

import pytest
from confluent_kafka import Producer

from erasestream.pipeline.stages.encryption.bounded_reads import BoundedReads
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import transactional_prefix
from erasestream.topics.catalog.roles import ROUTER, SINK
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.encryption.sink_harness import (
    OutdatedView,
    RecordingSink,
    Retain,
    granted,
    picture,
)
from tests.sinks.retention_harness import ManualClock
from tests.topics.consent.consent_harness import ACCOUNT, OWNER, writer


def test_a_picture_waits_for_the_offset_that_the_router_had_applied(
    kafka: KafkaFixture, lane: Lane, stage: EncryptionStage, sink: RecordingSink, retain: Retain
) -> None:
    grant, mark = granted(kafka, lane)
    retain(lane, grant, mark)
    eventually("the picture is stored", lambda: stage.run_once() or sink.grants, poll_s=0)
    assert sink.grants == [grant]


def test_pictures_of_a_removed_lane_are_dropped(
    kafka: KafkaFixture, lane: Lane, stage: EncryptionStage, sink: RecordingSink, retain: Retain
) -> None:
    gone = kafka.open_lane()
    retain(gone, *granted(kafka, gone))
    grant, mark = granted(kafka, lane)
    retain(lane, grant, mark)
    eventually("the next is stored", lambda: stage.run_once() or sink.grants, poll_s=0)
    assert sink.grants == [grant]


def test_a_lane_whose_decisions_are_unreachable_holds_up_no_other(
    kafka: KafkaFixture,
    lane: Lane,
    other_lane: Lane,
    view: OutdatedView,
    stage: EncryptionStage,
    sink: RecordingSink,
    retain: Retain,
) -> None:
    """Its pictures are stored once its decisions are read, each of them once."""
    at = Partition(RETAINED, 0)
    first = kafka.offsets.log_end(at)
    view.unreachable = frozenset({lane})
    grant, mark = granted(kafka, lane)
    for _ in range(3):
        retain(lane, grant, mark)
    other_grant, other_mark = granted(kafka, other_lane)
    retain(other_lane, other_grant, other_mark)

    def committed() -> int | None:
        stage.run_once()
        found = kafka.groups.committed(SINK, [at]).get(at)
        return found.offset if found else None

    eventually("the other's is stored", lambda: stage.run_once() or sink.grants, poll_s=0)
    assert sink.grants == [other_grant]
    eventually("the waiting ones are not committed", lambda: committed() == first, poll_s=0)
    view.unreachable = frozenset()
    eventually("all are committed", lambda: committed() == first + 4, poll_s=0)
    assert sink.grants == [other_grant, *[grant] * 3]


def test_a_record_that_cannot_be_read_holds_up_no_other(
    kafka: KafkaFixture, lane: Lane, stage: EncryptionStage, sink: RecordingSink, retain: Retain
) -> None:
    """Its partition is committed up to it, so that a newer version reads it again."""
    at = Partition(RETAINED, 0)
    unreadable = kafka.offsets.log_end(at)
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=20)
    with closing(writes):
        writes.write(at, b"key", Wire([("ce_type", b"unknown")], b"pixels"))
    grant, mark = granted(kafka, lane)
    retain(lane, grant, mark)
    eventually("the next is stored", lambda: stage.run_once() or sink.grants, poll_s=0)
    assert sink.grants == [grant]
    assert stage.quarantined() == [(*at, Defect.UNDECIDABLE_RECORD)]

    def committed() -> int | None:
        stage.run_once()
        found = kafka.groups.committed(SINK, [at]).get(at)
        return found.offset if found else None

    eventually("the offset is committed", lambda: committed() == unreadable, poll_s=0)


def test_offsets_are_committed_in_order(
    kafka: KafkaFixture, lane: Lane, stage: EncryptionStage, sink: RecordingSink, retain: Retain
) -> None:
    """A picture that was stored before an earlier one is not committed before it."""
    at = Partition(RETAINED, 0)
    first = kafka.offsets.log_end(at)
    gate = threading.Event()
    sink.gates = [gate]
    grant, mark = granted(kafka, lane)
    for _ in range(3):
        retain(lane, grant, mark)

    def committed() -> int | None:
        stage.run_once()
        found = kafka.groups.committed(SINK, [at]).get(at)
        return found.offset if found else None

    eventually("the later ones are stored", lambda: stage.run_once() or len(sink.grants) == 2)
    for _ in range(3):
        assert committed() in (None, first)
    gate.set()
    eventually("all are committed", lambda: committed() == first + 3, poll_s=0)


def test_a_retried_picture_is_dropped_once_its_grant_has_ended(
    kafka: KafkaFixture,
    lane: Lane,
    stage: EncryptionStage,
    sink: RecordingSink,
    retain: Retain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second attempt begins with decisions that are fresh again; no eraser runs here."""
    monkeypatch.setattr(OutdatedView, "marks", ConsentView.marks)
    at = Partition(RETAINED, 0)
    first = kafka.offsets.log_end(at)
    sink.failure = Unavailable("on purpose")
    retain(lane, *granted(kafka, lane))
    eventually("the attempt fails", lambda: stage.run_once() or not sink.failure, poll_s=0)
    writer(kafka, lane).revoke(ACCOUNT, **OWNER)

    def is_committed() -> bool:
        stage.run_once()
        found = kafka.groups.committed(SINK, [at]).get(at)
        return found is not None and found.offset == first + 1

    eventually("the picture is done", is_committed, poll_s=0)
    assert sink.grants == []


def test_reads_are_bounded_and_the_group_keeps_a_member_without_room(
    kafka: KafkaFixture, lane: Lane, queue: WorkQueue, retain: Retain
) -> None:
    """Without room it polls once a minute; nothing that it has fetched by then is lost."""
    grant, mark = granted(kafka, lane)
    for _ in range(3):
        retain(lane, grant, mark)
    clock = ManualClock()
    reads = BoundedReads(queue, wait=lambda _: None, clock=clock)
    (first,) = eventually("it joins", lambda: reads.read(0.2, room_bytes=1), poll_s=0)
    for _ in range(5):
        clock.now += 61
        assert reads.read(0, room_bytes=0) == []
    rest = list[Record]()
    eventually(
        "the rest is read",
        lambda: rest.extend(reads.read(0.2, room_bytes=10**9)) or len(rest) == 2,
        poll_s=0,
    )
    assert [each.offset - first.offset for each in rest] == [1, 2]


def test_no_lag_is_left_behind_the_markers_of_transactions(
    kafka: KafkaFixture, lane: Lane, stage: EncryptionStage, sink: RecordingSink
) -> None:
    """A marker is no record, and yet an offset: the group commits the one after it."""
    at = Partition(RETAINED, 0)
    settings = kafka.connection(ROUTER).settings(
        ClientErrorState(), transactional_id=f"{transactional_prefix(ROUTER)}{lane}"
    )
    grant, mark = granted(kafka, lane)
    wire = to_wire(picture(lane, grant, mark), source="/router")
    producer = Producer(settings)
    producer.init_transactions(20)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(RETAINED, wire.value, b"key", at.number, headers=list(wire.headers))
        assert producer.flush(20) == 0
        end(20)

    def lag() -> int:
        stage.run_once()
        found = kafka.groups.committed(SINK, [at]).get(at)
        return kafka.offsets.log_end(at) - (found.offset if found else 0)

    eventually("nothing lags", lambda: lag() == 0, poll_s=0)
    assert sink.grants == [grant]
