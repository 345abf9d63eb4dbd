"""Uploads behind forged record batches are read, and never another record in their place."""

import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.raw_kafka import RawKafka, batch, record, varint

HONEST = [0, 1, 2]
NEGATIVE_LENGTH = b"\0" + varint(0) * 2 + varint(-9) + varint(3) + b"bad" + varint(0)


@pytest.fixture
def at(lane: Lane) -> Partition:
    return Partition(uploads_of(lane), 0)


@pytest.fixture
def raw(kafka: KafkaFixture, lane: Lane) -> Iterator[RawKafka]:
    with RawKafka(kafka.cluster, lane_role(lane, LaneRole.PRODUCER)) as raw:
        yield raw


@pytest.fixture
def fetcher(kafka: KafkaFixture, lane: Lane) -> Iterator[RecordFetcher]:
    with closing(RecordFetcher(connection=kafka.connection(ROUTER))) as fetcher:
        yield fetcher


def append(raw: RawKafka, at: Partition, records: list[bytes]) -> int:
    """Append a batch, and return the offset of its first record."""
    produced = raw.produce(at.topic, at.number, batch(records))
    assert produced.error == 0
    return produced.base_offset


FORGED = {
    "twice the same": [record(0, b"bad"), record(0, b"bad")],
    "far ahead": [record(0, b"bad"), record(2_000_000_000, b"bad")],
    "back": [record(0, b"bad"), record(-1, b"bad")],
    "swapped": [record(1, b"bad"), record(0, b"bad")],
    "the next batch's": [record(0, b"bad"), record(2, b"bad"), record(3, b"bad")],
    "the next batch's, in order": [record(2, b"bad"), record(3, b"bad")],
    "unreadable": [varint(len(NEGATIVE_LENGTH)) + NEGATIVE_LENGTH],
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_honest_uploads_are_read_around_a_forged_batch(
    forged: list[bytes], raw: RawKafka, at: Partition, fetcher: RecordFetcher
) -> None:
    """In order, again from the beginning, and from behind the forgery."""
    before = append(raw, at, [record(n, b"before%d" % n) for n in HONEST])
    append(raw, at, forged)
    after = append(raw, at, [record(n, b"after%d" % n) for n in HONEST])
    honest = {before + n: b"before%d" % n for n in HONEST}
    honest |= {after + n: b"after%d" % n for n in HONEST}
    for offset in (*honest, *honest, after, before, after + 2, after + 1):
        found = fetcher.read(at, offset)
        assert found is not None
        assert (found.offset, found.value) == (offset, honest[offset])


def test_large_headers_do_not_fill_the_memory(
    raw: RawKafka, at: Partition, fetcher: RecordFetcher
) -> None:
    """They are read ahead, and librdkafka counts only keys and values of what it holds."""
    honest = append(raw, at, [record(0, b"honest")])
    for _ in range(80):
        append(raw, at, [record(0, b"large", headers=[(b"x", bytes(2_000_000))])])
    memory = psutil.Process().memory_info
    before = memory().rss
    found = fetcher.read(at, honest)
    assert found is not None
    assert found.value == b"honest"
    most = 0
    for _ in range(30):
        time.sleep(0.05)
        most = max(most, memory().rss - before)
    assert most < 60_000_000


def test_a_short_wait_for_one_partition_delays_no_other(
    kafka: KafkaFixture, raw: RawKafka, at: Partition
) -> None:
    """The record behind a batch that cannot be delivered is found by asking again."""
    append(raw, at, [record(0, b"first")])
    append(raw, at, FORGED["unreadable"])
    last = append(raw, at, [record(0, b"last")])
    other = Partition(at.topic, 1)
    append(raw, other, [record(0, b"other")])
    with closing(RecordFetcher(connection=kafka.connection(ROUTER), max_wait_s=0.01)) as fetcher:

        def value(of: Partition, offset: int) -> bytes | None:
            try:
                found = fetcher.read(of, offset)
            except Unavailable:
                return None
            assert found is not None
            return found.value

        assert eventually("the first", lambda: value(at, 0)) == b"first"
        assert value(at, last) is None
        assert eventually("the other", lambda: value(other, 0)) == b"other"
        assert eventually("the last", lambda: value(at, last)) == b"last"


class SteppedClock:
    """Advances at each look, until it is stopped; then it is looked at a few times only."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.looks_left: int | None = None

    def __call__(self) -> float:
        if self.looks_left is None:
            self.now_s += 0.1
        else:
            assert self.looks_left, "it waits"
            self.looks_left -= 1
        return self.now_s


def test_asking_again_waits_for_nothing(kafka: KafkaFixture, raw: RawKafka, at: Partition) -> None:
    """However many partitions are slow, the others wait for each of them once."""
    append(raw, at, FORGED["unreadable"])
    clock = SteppedClock()
    connection = kafka.connection(ROUTER)
    with closing(RecordFetcher(connection=connection, max_wait_s=0.5, clock=clock)) as fetcher:
        with pytest.raises(Unavailable, match="no answer yet"):
            fetcher.read(at, 0)
        clock.looks_left = 20
        with pytest.raises(Unavailable, match="no answer yet"):
            fetcher.read(at, 0)
