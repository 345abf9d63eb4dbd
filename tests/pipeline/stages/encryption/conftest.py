"""An encryption stage on a real broker, with an outdated consent view."""

import threading
from collections.abc import Iterator

import pytest

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.stages.encryption.loss_report import LossReport
from erasestream.pipeline.stages.encryption.loss_watch import LossWatch
from erasestream.pipeline.stages.encryption.picture_store import PictureStore
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.pipeline.stages.encryption.unread_records import UnreadRecords
from erasestream.pipeline.stages.encryption.unstored_alarm import UnstoredAlarm
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.ids import GrantId, Lane, UploadId
from erasestream.topics.catalog.roles import ROUTER, SINK
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.encryption.sink_harness import (
    OutdatedView,
    RecordingSink,
    Retain,
    delete_retained,
    picture,
)


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
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def store(view: OutdatedView, sink: RecordingSink, stopping: threading.Event) -> PictureStore:
    return PictureStore(view=view, sink=sink, stopping=stopping, max_parallel=8, max_bytes=10**6)


@pytest.fixture
def losses() -> list[tuple[str, str]]:
    """Return the findings that the stage has written: of which lane, and their details."""
    return []


@pytest.fixture
def alarm() -> UnstoredAlarm:
    return UnstoredAlarm(life_s=3600)


@pytest.fixture
def committed() -> dict[Partition, int]:
    """Return what the group has committed, for the stage's comparison with what there is."""
    return {}


@pytest.fixture
def queue(kafka: KafkaFixture, lane: Lane) -> Iterator[WorkQueue]:
    """Join the sink's group, with an empty topic `retained`."""
    delete_retained(kafka)
    queue = WorkQueue(connection=kafka.connection(SINK), topics=[RETAINED], instance=lane)
    yield queue
    queue.close()


@pytest.fixture
def stage(
    kafka: KafkaFixture,
    queue: WorkQueue,
    view: OutdatedView,
    store: PictureStore,
    losses: list[tuple[str, str]],
    alarm: UnstoredAlarm,
    committed: dict[Partition, int],
    stopping: threading.Event,
) -> Iterator[EncryptionStage]:
    """Open the stage with an outdated view, on an empty topic `retained`."""
    originals = RecordFetcher(connection=kafka.connection(SINK))
    stage = EncryptionStage(
        queue=queue,
        records=originals,
        view=view,
        store=store,
        losses=LossWatch(
            report=LossReport(lambda name, finding: losses.append((name, finding.detail))),
            alarm=alarm,
            unread=UnreadRecords(committed=committed.get, log_start=kafka.offsets.log_start),
            stopping=stopping,
        ),
        quarantine=QuarantineRegistry(),
    )
    yield stage
    stage.close()
    originals.close()


@pytest.fixture
def retain(kafka: KafkaFixture) -> Retain:
    """Return a function that writes a picture for the sink, as the router does."""
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=20)

    def write(lane: Lane, grant: GrantId, mark: str, *, size: int = 6) -> UploadId:
        event = picture(lane, grant, mark, size)
        writes.write(Partition(RETAINED, 0), b"key", to_wire(event, source="/router"))
        return event.id

    return write
