"""Uploads are read again by partition and offset; no other record is ever returned for them."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel
from erasestream.schemas.ids import Lane, UploadId, new_upload_id
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.connection import Settings
from erasestream.topics.kafka.consumer import read_ahead, record_fetcher
from erasestream.topics.kafka.consumer.read_ahead import MAX_SKIP
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.routing.router_harness import ACCOUNT, KafkaRouterHarness


@pytest.fixture
def fetcher(kafka: KafkaFixture, lane: Lane) -> Iterator[RecordFetcher]:
    """Open a fetcher with the router's rights."""
    assert lane in kafka.lanes
    with closing(RecordFetcher(connection=kafka.connection(ROUTER))) as fetcher:
        yield fetcher


def partition(lane: Lane, number: int = 0) -> Partition:
    return Partition(uploads_of(lane), number)


@pytest.fixture
def four_partitions(kafka: KafkaFixture, lane: Lane) -> list[Partition]:
    """Return partitions of two lanes."""
    return [partition(each, number) for each in (lane, kafka.open_lane()) for number in range(2)]


def append(kafka: KafkaFixture, at: Partition, values: list[bytes]) -> None:
    """Append records in this order."""

    def delivered(error: KafkaError | None, _message: Message) -> None:
        assert error is None, error

    settings = kafka.connection(ADMIN).settings(ClientErrorState(), message_max_bytes=30_000_000)
    producer = Producer(settings)
    for value in values:
        producer.produce(at.topic, value, None, at.number, delivered)
    assert producer.flush(60) == 0


def numbered_values(count: int, size: int = 20) -> list[bytes]:
    """Return values that contain their offset."""
    return [f"{offset}".encode().ljust(size, b".") for offset in range(count)]


def offset_in(value: bytes) -> int:
    return int(value.rstrip(b"."))


Read = Callable[[Partition, int], int | None]


@pytest.fixture
def read(fetcher: RecordFetcher) -> Read:
    """Return a function that reads a record, and returns the offset in its value."""

    def read(at: Partition, offset: int) -> int | None:
        record = fetcher.read(at, offset)
        if record is None:
            return None
        assert (record.at, record.offset) == (at, offset)
        return offset_in(record.value)

    return read


def test_offsets_are_read_in_any_order(kafka: KafkaFixture, lane: Lane, read: Read) -> None:
    """In order, ahead, far ahead, back, again; in another partition meanwhile."""
    count = 3 * MAX_SKIP
    for number in range(2):
        append(kafka, partition(lane, number), numbered_values(count))
    far = MAX_SKIP + 10
    wanted = [0, 1, 2, 5, 4, 4, far, far + 1, 3, count - 1, 0, MAX_SKIP, MAX_SKIP + 1, count - 2, 7]
    for offset in wanted:
        assert read(partition(lane, 0), offset) == offset
        other = count - 1 - offset
        assert read(partition(lane, 1), other) == other


def test_a_deleted_record_is_none(kafka: KafkaFixture, lane: Lane, read: Read) -> None:
    """Also if it was deleted while its neighbours were read; the next record is returned."""
    at = partition(lane)
    append(kafka, at, numbered_values(20))
    assert read(at, 0) == 0
    kafka.delete_records({at: 8})
    assert read(at, 8) == 8
    for offset in (3, 7, 0):
        assert read(at, offset) is None
        assert read(at, 8) == 8
    kafka.delete_records({at: 20})
    assert read(at, 12) in {12, None}, "it may have been read before"
    assert read(at, 3) is None
    assert read(at, 12) is None


def test_an_offset_beyond_the_end_is_none(kafka: KafkaFixture, lane: Lane, read: Read) -> None:
    """An offset of a topic that was created again and has fewer records."""
    at = partition(lane)
    append(kafka, at, numbered_values(3))
    assert read(at, 7) is None
    assert read(at, 2) == 2


def test_records_deleted_on_the_way_do_not_hide_the_next(
    kafka: KafkaFixture, lane: Lane, read: Read
) -> None:
    """On the way to an offset the log start moves past the reader, but not past the offset."""
    at = partition(lane)
    append(kafka, at, numbered_values(100, size=250_000))  # more than one fetch holds
    assert read(at, 0) == 0
    kafka.delete_records({at: MAX_SKIP - 1})
    assert read(at, MAX_SKIP) == MAX_SKIP
    assert read(at, MAX_SKIP - 2) is None


class LateErrors(Consumer):
    """Delivers out-of-range errors after the next assignment, which can happen.

    librdkafka drops the records fetched for an assignment that ended, but not its errors.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.withheld: list[Message] = []
        self.due: list[Message] = []

    def poll(self, timeout: float = -1) -> Message | None:
        if self.due:
            return self.due.pop()
        message = super().poll(timeout)
        error = message and message.error()
        if message and error and error.code() == KafkaError._AUTO_OFFSET_RESET:
            self.withheld.append(message)
            return None
        return message

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        super().incremental_assign(partitions)
        self.due, self.withheld = self.withheld, []


def test_a_late_error_about_another_offset_is_ignored(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = partition(lane)
    append(kafka, at, numbered_values(20))
    kafka.delete_records({at: 8})
    monkeypatch.setattr(record_fetcher, "Consumer", LateErrors)
    with closing(RecordFetcher(connection=kafka.connection(ROUTER))) as fetcher:
        monkeypatch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 0.5)
        with pytest.raises(Unavailable, match="no answer"):
            fetcher.read(at, 3)
        monkeypatch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 60)
        record = fetcher.read(at, 8)
        assert record is not None
        assert (record.offset, offset_in(record.value)) == (8, 8)


def test_a_silent_broker_is_unavailable(
    kafka: KafkaFixture, lane: Lane, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a record nor None; the record is read when the broker answers again."""
    for number in range(2):
        append(kafka, partition(lane, number), numbered_values(3))
    kafka.delete_records({partition(lane, 1): 2})
    assert read(partition(lane), 0) == 0
    monkeypatch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 0.5)
    with kafka.silence():
        for offset in (0, 2):
            with pytest.raises(Unavailable, match="no answer"):
                read(partition(lane, 1), offset)
    monkeypatch.undo()
    assert read(partition(lane, 1), 0) is None
    assert read(partition(lane, 1), 2) == 2


def bytes_read_ahead(fetcher: RecordFetcher) -> int:
    return sum(len(each) for ahead in fetcher._ahead._reading.values() for each in ahead.records)


def test_bytes_read_ahead_are_bounded(
    kafka: KafkaFixture,
    four_partitions: list[Partition],
    fetcher: RecordFetcher,
    read: Read,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many partitions are read by turns; evicted records are read again."""
    bound = 10_000
    monkeypatch.setattr(read_ahead, "MAX_HELD_BYTES", bound)
    for at in four_partitions:
        append(kafka, at, numbered_values(60, size=1000))
    most = 0
    for offset in (0, 20, 21, 50, 10, 59):
        for at in four_partitions:
            assert read(at, offset) == offset
            most = max(most, bytes_read_ahead(fetcher))
    assert 0 < most <= bound


def test_the_record_asked_for_is_never_evicted(
    kafka: KafkaFixture,
    four_partitions: list[Partition],
    read: Read,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The largest record is read although its neighbours were read ahead."""
    monkeypatch.setattr(read_ahead, "MAX_HELD_BYTES", 1000)
    for at, size in zip(four_partitions, (300, 300, 300, 900), strict=True):
        append(kafka, at, numbered_values(2, size=size))
    for offset in range(2):
        for at in four_partitions:
            assert read(at, offset) == offset


@pytest.fixture
def harness(kafka: KafkaFixture, lane: Lane) -> Iterator[KafkaRouterHarness]:
    harness = KafkaRouterHarness(kafka, lane)
    yield harness
    harness.close()


def upload_after_a_grant(harness: KafkaRouterHarness) -> tuple[UploadId, Position]:
    """Opt in, and upload until an upload is later, with a result of another upload in its place.

    Earlier uploads get their own results.
    """
    granted = harness.consent_writer().grant(ACCOUNT, actor="owner", channel=Channel.LIBRARY)

    def upload() -> tuple[UploadId, Position] | None:
        upload_id, position, at = harness.upload()
        if at - granted.at > MAX_CLOCK_SKEW:
            another = new_upload_id(2, bytes(10))
            harness.write_result(another, position, at)
            return upload_id, position
        harness.write_result(upload_id, position, at)
        return None

    return eventually("an upload after the grant", upload, poll_s=0.3)


def test_the_photo_of_another_upload_is_not_retained(harness: KafkaRouterHarness) -> None:
    """The offset holds another upload: the result is delivered and counted, nothing is retained."""
    upload_id, position = upload_after_a_grant(harness)
    routed = harness.route_until_delivered(position)
    assert harness.retained() == []
    assert routed.router.counts["original_gone"] == 1
    assert routed.router.counts["retained"] == 0
    own = harness.upload_with_result()
    routed.run_until(lambda: own in harness.delivered_so_far())
    assert len(harness.retained()) == 2, "the control: its own photo is retained"
    assert upload_id not in harness.retained()
