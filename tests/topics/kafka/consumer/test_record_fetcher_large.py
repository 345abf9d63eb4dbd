"""Uploads are read again past many large records that were not asked for."""

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
    """Append records of so many bytes; the first byte of each is its number."""
    settings = kafka.connection(ADMIN).settings(ClientErrorState(), message_max_bytes=30_000_000)
    producer = Producer(settings)
    for number, size in enumerate(sizes):
        producer.produce(at.topic, bytes([number]).ljust(size, b"."), None, at.number)
    assert producer.flush(60) == 0


def first_byte(fetcher: RecordFetcher, at: Partition, offset: int) -> int:
    record = fetcher.read(at, offset)
    assert record is not None
    assert record.offset == offset
    return record.value[0]


def test_an_offset_behind_large_uploads_is_sought(kafka: KafkaFixture, lane: Lane) -> None:
    """Forty megabytes are not read on the way."""
    at = Partition(uploads_of(lane), 0)
    upload(kafka, at, *[1_000_000] * 41)
    fetcher = RecordFetcher(connection=kafka.connection(ROUTER))
    try:
        assert first_byte(fetcher, at, 0) == 0
        assert first_byte(fetcher, at, 40) == 40
        assert fetcher.received < 20
    finally:
        fetcher.close()


def test_the_deadline_restarts_with_every_record(kafka: KafkaFixture, lane: Lane) -> None:
    """The deadline is for a broker that does not answer, not for the way to the offset."""
    at = Partition(uploads_of(lane), 0)
    upload(kafka, at, *[100] * 61)
    ticks = itertools.count(step=ANSWER_TIMEOUT_S / 50)  # time passes at each reading
    fetcher = RecordFetcher(connection=kafka.connection(ROUTER), clock=lambda: float(next(ticks)))
    try:
        assert first_byte(fetcher, at, 0) == 0
        assert first_byte(fetcher, at, 60) == 60
    finally:
        fetcher.close()


def test_a_large_record_that_is_asked_for_is_not_evicted(kafka: KafkaFixture, lane: Lane) -> None:
    """Even if records read ahead of another partition use up the memory."""
    first, second = (Partition(uploads_of(lane), number) for number in range(2))
    large = 24_000_000
    upload(kafka, first, 100, large - 1, large - 1)
    upload(kafka, second, 100, large)
    fetcher = RecordFetcher(connection=kafka.connection(ROUTER))
    try:
        assert first_byte(fetcher, first, 0) == 0
        assert first_byte(fetcher, first, 1) == 1
        assert first_byte(fetcher, second, 1) == 1
        assert first_byte(fetcher, first, 2) == 2
        assert 3 * large > MAX_HELD_BYTES
    finally:
        fetcher.close()
