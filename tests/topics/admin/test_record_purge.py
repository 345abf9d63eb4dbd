"""Early purge of processed records, and of no others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.record_purge import RecordPurger, purgeable_offsets
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ADMIN, PURGER
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, uploads_of
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.group_offsets import Committed
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture

NOW = "A" * 22
BEFORE = "B" * 22
LANE = Lane("shop")
CUTOUTS = Partition(cutouts_of(LANE), 0)
UPLOADS = Partition(uploads_of(LANE), 0)
STORED = Partition(RETAINED, 0)


@given(
    routed=st.integers(0, 100),
    mark=st.integers(-1, 100),
    stored=st.integers(0, 100),
    topic_id=st.sampled_from([NOW, BEFORE]),
)
def test_nothing_beyond_committed_offsets_is_purged(
    routed: int, mark: int, stored: int, topic_id: str
) -> None:
    """Uploads up to the mark, cut-outs up to the router's offset, retained up to the sink's."""
    metadata = str(ReplayMark(topic_id=topic_id, offset=mark))
    found = purgeable_offsets(
        routed={CUTOUTS: Committed(routed, metadata)},
        stored={STORED: Committed(stored)},
        topic_ids={UPLOADS.topic: NOW},
    )
    assert found.get(CUTOUTS, 0) == routed
    assert found.get(STORED, 0) == stored
    assert found.get(UPLOADS, 0) == (mark + 1 if topic_id == NOW else 0)


@pytest.mark.parametrize(
    "metadata", ["", "1:short:3", "2:" + NOW + ":3", f"!results_missing 1:{NOW}:3"]
)
def test_an_unreadable_mark_purges_nothing(metadata: str) -> None:
    """Neither uploads nor cut-outs: a repair will need them.  Nor those of a broken partition."""
    routed = {CUTOUTS: Committed(7, metadata)}
    assert purgeable_offsets(routed=routed, stored={}, topic_ids={UPLOADS.topic: NOW}) == {}


OpenPurger = Callable[[Catalog], RecordPurger]


@pytest.fixture
def registry() -> QuarantineRegistry:
    return QuarantineRegistry()


@pytest.fixture
def open_purger(kafka: KafkaFixture, registry: QuarantineRegistry) -> Iterator[OpenPurger]:
    with ExitStack() as opened:

        def open_it(catalog: Catalog) -> RecordPurger:
            purger = RecordPurger(
                connection=kafka.connection(PURGER), catalog=catalog, listener=registry
            )
            opened.callback(purger.close)
            return purger

        yield open_it


def produce(kafka: KafkaFixture, at: Partition, count: int) -> None:
    """Write records to one partition."""
    producer = Producer(kafka.connection(ADMIN).settings(ClientErrorState()))
    for _ in range(count):
        producer.produce(at.topic, b"x", None, at.number)
    assert producer.flush(20) == 0


def test_uploads_are_purged_up_to_the_mark(
    kafka: KafkaFixture, lane: Lane, open_purger: OpenPurger
) -> None:
    """On a real broker, with the purger's own rights."""
    catalog = kafka.catalog_of(lane)
    purger = open_purger(catalog)
    purger.purge_once()  # records that the sink of other tests has stored
    offsets = kafka.offsets
    uploads, cutouts = Partition(uploads_of(lane), 0), Partition(cutouts_of(lane), 0)
    for at in (uploads, cutouts):
        produce(kafka, at, 10)
    topic_id = offsets.topic_ids([uploads.topic])[uploads.topic]
    mark = ReplayMark(topic_id=topic_id, offset=4)
    kafka.groups.commit("router", cutouts, 7, metadata=str(mark))

    assert purger.purge_once() == 2
    assert purger.purge_once() == 0

    assert (offsets.log_start(uploads), offsets.log_end(uploads)) == (5, 10)
    assert (offsets.log_start(cutouts), offsets.log_end(cutouts)) == (7, 10)
    assert offsets.log_start(Partition(uploads.topic, 1)) == 0


def test_partitions_that_were_added_are_purged(
    kafka: KafkaFixture, lane: Lane, open_purger: OpenPurger
) -> None:
    """By a purger that was started before."""
    purger = open_purger(kafka.catalog_of(lane))
    kafka.grown[lane] = PARTITIONS + 1
    kafka.provision(kafka.catalog())
    offsets, added = kafka.offsets, Partition(cutouts_of(lane), PARTITIONS)
    produce(kafka, added, 10)
    mark = ReplayMark(topic_id=offsets.topic_ids([uploads_of(lane)])[uploads_of(lane)], offset=-1)
    kafka.groups.commit("router", added, 7, metadata=str(mark))

    def is_purged() -> bool:
        purger.purge_once()
        return offsets.log_start(added) == 7

    eventually("the broker tells of the partition", is_purged)


def test_an_offset_that_a_partition_does_not_have_concerns_that_partition(
    kafka: KafkaFixture, lane: Lane, open_purger: OpenPurger, registry: QuarantineRegistry
) -> None:
    """All others are purged; it is listed until its offset is repaired."""
    offsets, topic = kafka.offsets, cutouts_of(lane)
    mark = ReplayMark(topic_id=offsets.topic_ids([uploads_of(lane)])[uploads_of(lane)], offset=-1)
    broken, whole = Partition(topic, 0), Partition(topic, 1)
    for at, offset in ((broken, 1_000_000), (whole, 7)):
        produce(kafka, at, 10)
        kafka.groups.commit("router", at, offset, metadata=str(mark))
    purger = open_purger(kafka.catalog_of(lane))
    purger.purge_once()
    assert (offsets.log_start(broken), offsets.log_start(whole)) == (0, 7)
    assert registry.partitions() == [(*broken, Defect.NOT_PURGED)]
    kafka.groups.commit("router", broken, 5, metadata=str(mark))
    purger.purge_once()
    assert offsets.log_start(broken) == 5
    assert registry.partitions() == []


def test_retained_is_purged_up_to_the_sinks_offset(
    kafka: KafkaFixture, lane: Lane, open_purger: OpenPurger
) -> None:
    """Records that wait for the sink stay, and so do other partitions."""
    catalog = kafka.catalog_of(lane)
    admin = kafka.admin
    offsets = OffsetQueries(admin)
    stored, waiting = Partition(RETAINED, 0), Partition(RETAINED, 1)
    for at in (stored, waiting):
        produce(kafka, at, 10)
    end = {at: offsets.log_end(at) for at in (stored, waiting)}
    eventually("no sink of another test is left", lambda: not admin.has_members("sink"))
    kafka.groups.commit("sink", stored, end[stored] - 3, metadata="")
    purger = open_purger(catalog)
    try:
        purger.purge_once()
    finally:  # the other tests' sink has stored nothing
        kafka.delete_group("sink")
    assert offsets.log_start(stored) == end[stored] - 3
    assert offsets.log_start(waiting) <= end[waiting] - 10


def test_offsets_in_an_open_transaction_do_not_count(
    kafka: KafkaFixture, lane: Lane, open_purger: OpenPurger
) -> None:
    """Records below the offset committed before it are purged."""
    catalog = kafka.catalog_of(lane)
    offsets = kafka.offsets
    topic_id = offsets.topic_ids([uploads_of(lane)])[uploads_of(lane)]
    for number in range(PARTITIONS):
        produce(kafka, Partition(cutouts_of(lane), number), 10)
        mark = ReplayMark(topic_id=topic_id, offset=-1)
        kafka.groups.commit("router", Partition(cutouts_of(lane), number), 7, metadata=str(mark))
    purger = open_purger(catalog)
    router = kafka.connection(ADMIN)
    writer = Producer(router.settings(ClientErrorState(), transactional_id=f"open-{lane}"))
    reader = Consumer(router.settings(ClientErrorState(), group_id="router"))
    writer.init_transactions(20)
    writer.begin_transaction()
    moved = TopicPartition(cutouts_of(lane), 1, 9, metadata=str(mark))
    writer.send_offsets_to_transaction([moved], reader.consumer_group_metadata(), 20)
    try:
        purger.purge_once()
        places = [Partition(cutouts_of(lane), number) for number in range(PARTITIONS)]
        assert [offsets.log_start(at) for at in places] == [7, 7]
    finally:
        writer.abort_transaction(20)
        reader.close()
