"""Uploads are read again at their place, and nothing else is ever taken for them."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel
from erasestream.schemas.ids import Lane, UploadId, new_upload_id
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.connection import Settings
from erasestream.topics.kafka.consumer import record_fetcher
from erasestream.topics.kafka.consumer.record_fetcher import MAX_SKIP, RecordFetcher
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture, opened_kafka
from tests.pipeline.stages.routing.router_harness import ACCOUNT, KafkaRouterHarness


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaFixture]:
    """A broker of this module's own: it stands still for a while, and has a router."""
    with opened_kafka(tmp_path_factory.mktemp("originals")) as kafka:
        kafka.grown = dict.fromkeys((Lane(f"lane-{n}") for n in range(1, 20)), 4)
        yield kafka


@pytest.fixture
def reader(kafka: KafkaFixture, lane: Lane) -> Iterator[RecordFetcher]:
    """As the router has it."""
    assert lane in kafka.lanes
    reader = RecordFetcher(connection=kafka.connection(ROUTER))
    yield reader
    reader.close()


def place(lane: Lane, number: int = 0) -> Partition:
    """A partition of the lane's uploads."""
    return Partition(uploads_of(lane), number)


def fill(kafka: KafkaFixture, at: Partition, values: list[bytes]) -> None:
    """Records, one after another."""

    def delivered(error: KafkaError | None, _message: Message) -> None:
        assert error is None, error

    settings = kafka.connection(ADMIN).settings(ClientErrorState(), message_max_bytes=30_000_000)
    producer = Producer(settings)
    for value in values:
        producer.produce(at.topic, value, None, at.number, delivered)
    assert producer.flush(60) == 0


def named(count: int, size: int = 20) -> list[bytes]:
    """Values that tell their offset."""
    return [f"{offset}".encode().ljust(size, b".") for offset in range(count)]


def offset_in(value: bytes) -> int:
    """What a value tells."""
    return int(value.rstrip(b"."))


def delete(kafka: KafkaFixture, at: Partition, *, below: int) -> None:
    """As retention or the purger do."""
    kafka.delete_records({at: below})


Reads = Callable[[Partition, int], int | None]


@pytest.fixture
def read(reader: RecordFetcher) -> Reads:
    """The offset that the record at a place tells of itself."""

    def read(at: Partition, offset: int) -> int | None:
        record = reader.read(at, offset)
        if record is None:
            return None
        assert (record.at, record.offset) == (at, offset)
        return offset_in(record.value)

    return read


def test_back_and_forth(kafka: KafkaFixture, lane: Lane, read: Reads) -> None:
    """In order, ahead, far ahead, back, again, and in another partition meanwhile."""
    count = 3 * MAX_SKIP
    for number in range(2):
        fill(kafka, place(lane, number), named(count))
    far = MAX_SKIP + 10
    wanted = [0, 1, 2, 5, 4, 4, far, far + 1, 3, count - 1, 0, MAX_SKIP, MAX_SKIP + 1, count - 2, 7]
    for offset in wanted:
        assert read(place(lane, 0), offset) == offset
        other = count - 1 - offset
        assert read(place(lane, 1), other) == other


def test_what_is_gone_is_gone(kafka: KafkaFixture, lane: Lane, read: Reads) -> None:
    """Also if it went while its neighbours were being read; what follows it is still there."""
    at = place(lane)
    fill(kafka, at, named(20))
    assert read(at, 0) == 0
    delete(kafka, at, below=8)
    assert read(at, 8) == 8
    for offset in (3, 7, 0):
        assert read(at, offset) is None
        assert read(at, 8) == 8
    delete(kafka, at, below=20)
    assert read(at, 12) in {12, None}, "it may have been read before"
    assert read(at, 3) is None
    assert read(at, 12) is None


def test_a_place_beyond_the_end_is_no_other_place(
    kafka: KafkaFixture, lane: Lane, read: Reads
) -> None:
    """An offset of a topic that was made anew and has not come so far again."""
    at = place(lane)
    fill(kafka, at, named(3))
    assert read(at, 7) is None
    assert read(at, 2) == 2


def test_what_went_while_it_was_read_through_takes_nothing_with_it(
    kafka: KafkaFixture, lane: Lane, read: Reads
) -> None:
    """On the way to a place the log's start moves past the reader: the place itself is there."""
    at = place(lane)
    fill(kafka, at, named(100, size=250_000))  # more than one fetch holds
    assert read(at, 0) == 0
    delete(kafka, at, below=MAX_SKIP - 1)
    assert read(at, MAX_SKIP) == MAX_SKIP
    assert read(at, MAX_SKIP - 2) is None


class Belated(Consumer):
    """What it says of a place that is gone comes after the next assignment, as it can happen.

    librdkafka drops what it has fetched for an assignment that was given up, not its errors.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.withheld: list[Message] = []
        self.due: list[Message] = []

    def poll(self, timeout: float = -1) -> Message | None:
        """What is due, else what comes."""
        if self.due:
            return self.due.pop()
        message = super().poll(timeout)
        error = message and message.error()
        if message and error and error.code() == KafkaError._AUTO_OFFSET_RESET:
            self.withheld.append(message)
            return None
        return message

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Now it is late."""
        super().incremental_assign(partitions)
        self.due, self.withheld = self.withheld, []


def test_what_was_said_of_another_place_is_not_believed_of_this_one(
    kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer to an earlier question that comes late: what is there is read, not called gone."""
    at = place(lane)
    fill(kafka, at, named(20))
    delete(kafka, at, below=8)
    monkeypatch.setattr(record_fetcher, "Consumer", Belated)
    reader = RecordFetcher(connection=kafka.connection(ROUTER))
    try:
        monkeypatch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 0.5)
        with pytest.raises(Unavailable, match="no answer"):
            reader.read(at, 3)
        monkeypatch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 60)
        record = reader.read(at, 8)
        assert record is not None
        assert (record.offset, offset_in(record.value)) == (8, 8)
    finally:
        reader.close()


def test_a_broker_that_is_away_says_nothing_about_a_place(
    kafka: KafkaFixture, lane: Lane, read: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Unavailable`, neither there nor gone; and when it is back it is read."""
    for number in range(2):
        fill(kafka, place(lane, number), named(3))
    delete(kafka, place(lane, 1), below=2)
    assert read(place(lane), 0) == 0
    monkeypatch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 0.5)
    with kafka.silence():
        for offset in (0, 2):
            with pytest.raises(Unavailable, match="no answer"):
                read(place(lane, 1), offset)
    monkeypatch.undo()
    assert read(place(lane, 1), 0) is None
    assert read(place(lane, 1), 2) == 2


def held_bytes(reader: RecordFetcher) -> int:
    """What was read ahead."""
    return sum(len(each.value) for ahead in reader._reading.values() for each in ahead.records)


def test_what_is_read_ahead_is_bounded_in_bytes(
    kafka: KafkaFixture,
    lane: Lane,
    reader: RecordFetcher,
    read: Reads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many partitions are read by turns; what was let go of is read again."""
    bound = 10_000
    monkeypatch.setattr(record_fetcher, "MAX_HELD_BYTES", bound)
    places = [place(lane, number) for number in range(4)]
    for at in places:
        fill(kafka, at, named(60, size=1000))
    most = 0
    for offset in (0, 20, 21, 50, 10, 59):
        for at in places:
            assert read(at, offset) == offset
            most = max(most, held_bytes(reader))
    assert 0 < most <= bound


def test_what_is_asked_for_is_never_let_go_of(
    kafka: KafkaFixture, lane: Lane, read: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large neighbours that nobody asks for do not keep the largest from being read."""
    monkeypatch.setattr(record_fetcher, "MAX_HELD_BYTES", 1000)
    for number, size in enumerate((300, 300, 300, 900)):
        fill(kafka, place(lane, number), named(2, size=size))
    for number in range(4):
        assert read(place(lane, number), 0) == 0
    for number in range(4):
        assert read(place(lane, number), 1) == 1


@pytest.fixture
def bench(kafka: KafkaFixture, lane: Lane) -> Iterator[KafkaRouterHarness]:
    """A lane of the test's own."""
    bench = KafkaRouterHarness(kafka, lane)
    yield bench
    bench.close()


def after_a_grant(bench: KafkaRouterHarness) -> tuple[UploadId, Position]:
    """Opt in, and upload until it is surely after that; the results of those before as well."""
    granted = bench.consent_writer().grant(ACCOUNT, actor="owner", channel=Channel.LIBRARY)

    def upload() -> tuple[UploadId, Position] | None:
        made, position, at = bench.upload()
        if at - granted.at > MAX_CLOCK_SKEW:
            stranger = new_upload_id(2, bytes(10))
            bench.write_result(stranger, position, at)
            return made, position
        bench.write_result(made, position, at)
        return None

    return eventually("an upload after the grant", upload, poll_s=0.3)


def test_a_strangers_photo_is_kept_with_no_cutout(bench: KafkaRouterHarness) -> None:
    """Another upload lies at the place: the result is delivered and counted, nothing is kept."""
    upload, position = after_a_grant(bench)
    routed = bench.route_until_delivered(position)
    assert bench.retained() == []
    assert routed.router.counts["original_gone"] == 1
    assert routed.router.counts["retained"] == 0
    own = bench.upload_with_result()
    routed.run_until(lambda: own in bench.delivered_so_far())
    assert len(bench.retained()) == 2, "the control: its own photo is kept"
    assert upload not in bench.retained()
