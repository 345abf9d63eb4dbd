"""The encryption stage on a real broker, whose consent view gets an outdated mark."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.stages.encryption.picture_store import PictureStore
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import GrantId, Lane, new_upload_id
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.topics.catalog.acl import transactional_prefix
from erasestream.topics.catalog.roles import ROUTER, SINK
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import ACCOUNT, OWNER, writer


class OutdatedView(ConsentView):
    """A view that gets the mark of an empty topic, as from a deposed leader, or none."""

    unreachable: frozenset[Lane] = frozenset()

    def marks(self, lanes: Collection[Lane], *, timeout_s: float) -> dict[Lane, Mark]:
        marks = super().marks(lanes, timeout_s=timeout_s)
        reachable = marks.keys() - self.unreachable
        return {lane: dict.fromkeys(marks[lane], 0) for lane in reachable}


class RecordingSink(EncryptionSink):
    """Records the grants of the pictures that it is given."""

    def __init__(self) -> None:
        self.grants: list[GrantId] = []

    def store(self, event: Retained) -> None:  # type: ignore[override]
        self.grants.append(event.grant)

    def assert_not_erased(self, grant: GrantId) -> None:
        pass


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def other_lane(kafka: KafkaFixture) -> Lane:
    return kafka.open_lane()


@pytest.fixture
def view(kafka: KafkaFixture, lane: Lane, other_lane: Lane) -> Iterator[OutdatedView]:
    """Open an outdated view of two lanes."""
    view = OutdatedView(
        connection=kafka.connection(SINK),
        catalog=kafka.catalog(),
        lanes=(lane, other_lane),
        report=lambda *_: None,
    )
    yield view
    view.close()


@pytest.fixture
def stage(
    kafka: KafkaFixture, lane: Lane, sink: RecordingSink, view: OutdatedView
) -> Iterator[EncryptionStage]:
    """Open the stage with an outdated view, on an empty topic `retained`."""
    delete_retained(kafka)
    connection = kafka.connection(SINK)
    queue = WorkQueue(connection=connection, topics=[RETAINED], instance=lane)
    originals = RecordFetcher(connection=connection)
    stopping = threading.Event()
    stage = EncryptionStage(
        queue=queue,
        records=originals,
        view=view,
        store=PictureStore(view=view, sink=sink, stopping=stopping),
        quarantine=QuarantineRegistry(),
        stopping=stopping,
    )
    yield stage
    stage.close()
    originals.close()
    queue.close()


@pytest.fixture
def retain(kafka: KafkaFixture) -> Callable[[Lane, GrantId, str], None]:
    """Return a function that writes a picture for the sink, as the router does."""
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=20)

    def write(lane: Lane, grant: GrantId, mark: str) -> None:
        wire = to_wire(picture(lane, grant, mark), source="/router")
        writes.write(Partition(RETAINED, 0), b"key", wire)

    return write


def picture(lane: Lane, grant: GrantId, mark: str) -> Retained:
    now = datetime.now(UTC)
    return Retained(
        id=new_upload_id(1, bytes(10)),
        time=now,
        lane=lane,
        account=ACCOUNT,
        part=Part.ORIGINAL,
        grant=grant,
        mark=mark,
        position=Position(topic_id="A" * 22, partition=0, offset=7),
        uploaded_at=now,
        content_type="image/png",
        data=b"pixels",
    )


Retain = Callable[[Lane, GrantId, str], None]


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


def delete_retained(kafka: KafkaFixture) -> None:
    """Delete all records of `retained`, those of other tests too."""
    partitions = kafka.catalog()[RETAINED].partitions
    places = [Partition(RETAINED, number) for number in range(partitions)]
    kafka.delete_records(kafka.offsets.log_ends(places))


def granted(kafka: KafkaFixture, lane: Lane) -> tuple[GrantId, str]:
    """Grant; return the grant and a mark that covers it."""
    writes = writer(kafka, lane)
    grant = writes.grant(ACCOUNT, **OWNER).grant
    assert grant
    ((at, end),) = writes.reader.end_mark(ACCOUNT).items()
    return grant, f"{at.number}/{end}"
