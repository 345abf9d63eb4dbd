"""Offsets that records of a lane claim: brokers number small records, and readers are bounded."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import HEARTBEAT_KEY
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ERASER, ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.records import Partition, Record
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.raw_kafka import BatchHeader, Produced, RawKafka, batch, lz4_frame, record, varint

LZ4 = 3


@pytest.fixture
def at(lane: Lane) -> Partition:
    return Partition(consent_of(lane), 0)


@pytest.fixture
def raw(kafka: KafkaFixture, lane: Lane) -> Iterator[RawKafka]:
    with RawKafka(kafka.cluster, lane_role(lane, LaneRole.ACCOUNT)) as raw:
        yield raw


@pytest.fixture
def unnumbered(kafka: KafkaFixture, at: Partition) -> Iterator[Partition]:
    """Return a partition of a topic whose broker believes the records' offsets."""
    with kafka.uncompressed(at.topic):
        yield at


def small(delta: int, value: bytes = b"") -> bytes:
    return record(delta, value, key=HEARTBEAT_KEY)


def send(raw: RawKafka, at: Partition, *deltas: int, value: bytes = b"") -> int:
    """Append a batch whose records claim these deltas; return the offset of its first record."""
    produced = raw.produce(at.topic, at.number, batch([small(n, value) for n in deltas]))
    assert produced.error == 0
    return produced.base_offset


class OpenView:
    """A view of one partition, and the records that it has applied."""

    def __init__(self, kafka: KafkaFixture, at: Partition) -> None:
        self.at = at
        self.records: list[Record] = []
        self.view = CompactedView(
            connection=kafka.connection(ROUTER),
            topics={at.topic: at.number + 1},
            apply=self.records.append,
            only=at.__eq__,
        )

    def catch_up(self) -> None:
        self.view.catch_up(self.view.mark(), deadline_s=60)


@pytest.fixture
def opened(kafka: KafkaFixture, at: Partition) -> Iterator[OpenView]:
    opened = OpenView(kafka, at)
    with closing(opened.view):
        yield opened


@pytest.mark.parametrize("deltas", [[0, 0], [0, -1], [1, 0], [0, 7], [1_000_000]])
def test_the_broker_numbers_the_records_of_small_topics(
    deltas: list[int], at: Partition, raw: RawKafka, opened: OpenView
) -> None:
    first = send(raw, at, *deltas)
    last = send(raw, at, 0)
    opened.catch_up()
    assert [each.offset for each in opened.records] == list(range(first, last + 1))
    assert opened.view.applied == {at: last + 1}
    assert not opened.view.forged


def test_the_broker_refuses_false_offsets_in_a_compressed_batch(
    at: Partition, raw: RawKafka
) -> None:
    """It would keep the batch as it is: the codec is the topic's own."""

    def sent(delta: int) -> Produced:
        header = BatchHeader(count=1, attributes=LZ4)
        return raw.produce(at.topic, at.number, batch(lz4_frame(small(delta)), header))

    assert sent(0).error == 0
    assert sent(5).error != 0


def test_an_undeliverable_batch_holds_up_its_own_partition_only(
    kafka: KafkaFixture, at: Partition, raw: RawKafka
) -> None:
    """The broker keeps a batch of the topic's own codec as it is, also with a length of -9."""
    fields = b"\0" + varint(0) * 2 + varint(1) + b"k" + varint(-9) + varint(0)
    header = BatchHeader(count=1, attributes=LZ4)
    undeliverable = batch(lz4_frame(varint(len(fields)) + fields), header)
    assert raw.produce(at.topic, at.number, undeliverable).error == 0
    send(raw, at, 0)
    other = Partition(at.topic, 1)
    end = send(raw, other, 0) + 1
    view = CompactedView(
        connection=kafka.connection(ROUTER), topics={at.topic: 2}, apply=lambda _record: None
    )
    with closing(view):
        assert view.catch_up_reachable([at, other], deadline_s=10) == {other}
        assert view.applied == {at: 0, other: end}


def test_a_view_is_never_ahead_of_the_log(
    unnumbered: Partition, raw: RawKafka, opened: OpenView
) -> None:
    """The record is applied, since it is in the log; its offset advances nothing."""
    first = send(raw, unnumbered, 0)
    opened.catch_up()
    send(raw, unnumbered, 1_000_000, value=b"forged")

    def forged_is_applied() -> bool:
        with pytest.raises(Unavailable):
            opened.view.catch_up(opened.view.mark(), deadline_s=1)
        return opened.records[-1].value == b"forged"

    eventually("the forged record is applied", forged_is_applied)
    assert opened.view.applied == {unnumbered: first + 1}
    eventually("it is reported", lambda: forged_is_applied() and opened.view.forged)
    assert opened.view.forged == {unnumbered}
    send(raw, unnumbered, 0, value=b"revoked")
    opened.catch_up()
    assert opened.records[-1].value == b"revoked"
    assert opened.view.applied == {unnumbered: first + 3}


def test_no_offset_is_committed_that_the_log_does_not_have(
    kafka: KafkaFixture, unnumbered: Partition, raw: RawKafka
) -> None:
    """Records behind the false offset are still read, and their offsets committed."""
    queue = WorkQueue(
        connection=kafka.connection(ERASER), topics=[unnumbered.topic], instance="forged-offsets"
    )
    committed: list[int] = []

    def read(value: bytes) -> list[Record]:
        records = queue.read(timeout_s=0.2, most=10)
        return records if any(each.value == value for each in records) else []

    def committed_offset() -> int:
        (found,) = queue._consumer.committed([TopicPartition(*unnumbered)], 20)
        return found.offset

    with closing(queue):
        eventually(
            "the partitions are assigned",
            lambda: queue.read(timeout_s=0.2, most=1) or queue.has_joined,
        )
        for deltas, value in (([0], b"a"), ([1_000_000], b"forged"), ([0], b"b")):
            send(raw, unnumbered, *deltas, value=value)
            queue.commit(eventually("the record", lambda v=value: read(v)))  # type: ignore[misc]
            queue.read(timeout_s=0.2, most=10)
            eventually("the commit", lambda: not queue._commits._uncommitted)
            committed.append(committed_offset())
    assert committed == [1, 1, 3]
