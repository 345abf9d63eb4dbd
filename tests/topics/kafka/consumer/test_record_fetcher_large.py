"""Uploads are read again also where much that nobody asked for lies between them."""

import itertools

from confluent_kafka import Producer

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.consumer.record_fetcher import (
    ANSWER_TIMEOUT_S,
    MAX_HELD_BYTES,
    RecordFetcher,
)
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition
from tests.kafka_fixture import KafkaFixture


def upload(kafka: KafkaFixture, at: Partition, *sizes: int) -> None:
    """Records of so many bytes, in their order; each says which it is."""
    settings = kafka.connection(ADMIN).settings(ClientErrorState(), message_max_bytes=30_000_000)
    producer = Producer(settings)
    for number, size in enumerate(sizes):
        producer.produce(at.topic, bytes([number]).ljust(size, b"."), None, at.number)
    assert producer.flush(60) == 0


def first_byte(originals: RecordFetcher, at: Partition, offset: int) -> int:
    """Which record is read at this place."""
    record = originals.read(at, offset)
    assert record is not None
    assert record.offset == offset
    return record.value[0]


def test_a_place_behind_large_uploads_is_sought(kafka: KafkaFixture, lane: Lane) -> None:
    """Forty megabytes are not read through to it."""
    at = Partition(uploads_of(lane), 0)
    upload(kafka, at, *[1_000_000] * 41)
    originals = RecordFetcher(connection=kafka.connection(ROUTER))
    try:
        assert first_byte(originals, at, 0) == 0
        assert first_byte(originals, at, 40) == 40
        assert originals.received < 20
    finally:
        originals.close()


def test_reading_through_takes_as_long_as_records_come(kafka: KafkaFixture, lane: Lane) -> None:
    """The deadline is for a broker that says nothing, not for the way to the place."""
    at = Partition(uploads_of(lane), 0)
    upload(kafka, at, *[100] * 61)
    ticks = itertools.count(step=ANSWER_TIMEOUT_S / 50)  # each look at the clock takes so long
    originals = RecordFetcher(connection=kafka.connection(ROUTER), clock=lambda: float(next(ticks)))
    try:
        assert first_byte(originals, at, 0) == 0
        assert first_byte(originals, at, 60) == 60
    finally:
        originals.close()


def test_what_was_asked_for_is_not_let_go(kafka: KafkaFixture, lane: Lane) -> None:
    """Also where what was read ahead of other partitions has used up the memory."""
    first, second = (Partition(uploads_of(lane), number) for number in range(2))
    large = 24_000_000
    upload(kafka, first, 100, large - 1, large - 1)
    upload(kafka, second, 100, large)
    originals = RecordFetcher(connection=kafka.connection(ROUTER))
    try:
        assert first_byte(originals, first, 0) == 0
        assert first_byte(originals, first, 1) == 1
        assert first_byte(originals, second, 1) == 1
        assert first_byte(originals, first, 2) == 2
        assert 3 * large > MAX_HELD_BYTES
    finally:
        originals.close()
