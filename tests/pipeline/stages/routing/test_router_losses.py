"""The router on a real broker when offsets, results or uploads are gone."""

from contextlib import closing

import pytest
from confluent_kafka import Consumer

from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.ledger import FindingKind
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ADMIN, ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import cutouts_of, ledger_of, uploads_of
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.consumer import record_fetcher
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.pipeline.stages.routing.router_harness import LEFT_OPEN_S, KafkaRouterHarness
from tests.raw_kafka import (
    DUPLICATE_SEQUENCE,
    MAX_EPOCH,
    NO_ERROR,
    BatchHeader,
    RawKafka,
    batch,
    record,
)


def route_three(harness: KafkaRouterHarness) -> list[Position]:
    """Route three results, and close the router."""
    routed = [harness.upload_with_result() for _ in range(3)]
    harness.route_until_delivered(*routed).close()
    return routed


def repair(harness: KafkaRouterHarness) -> None:
    """Repair the lane's offsets; the group may have members."""
    recovery = RouterRecovery(
        connection=harness.kafka.connection(ADMIN),
        catalog=harness.kafka.catalog(),
        actor="operator:test",
    )
    with closing(recovery):
        list(recovery.recover(harness.lane))


def test_an_automatic_commit_breaks_the_partition_until_it_is_repaired(
    harness: KafkaRouterHarness,
) -> None:
    """It wipes the mark; the repair reads it from the delivered results, and nothing repeats."""
    before = route_three(harness)
    settings = harness.kafka.connection(ROUTER).settings(
        ClientErrorState(), group_id=ROUTER, enable_auto_commit=True
    )
    stranger = Consumer(settings | {"auto.offset.reset": "earliest"})
    stranger.subscribe([cutouts_of(harness.lane)])
    last = harness.upload_with_result()
    eventually("it reads", lambda: stranger.poll(0.2))
    stranger.close()
    harness.assert_quarantined(Defect.UNREADABLE_MARK, "no replay mark")

    repair(harness)
    assert last == before[-1]._replace(offset=3)
    harness.route_until_delivered(last)
    assert harness.delivered() == [*before, last]


def test_deleted_offsets_break_the_partition(harness: KafkaRouterHarness) -> None:
    """Routed results cannot be distinguished from others, neither from the start nor the end."""
    before = route_three(harness)
    harness.kafka.evict_static_members()
    harness.kafka.delete_group(ROUTER)
    try:
        harness.assert_quarantined(Defect.NO_COMMITTED_OFFSET)
        assert harness.delivered() == before
    finally:
        harness.kafka.evict_static_members()
        harness.kafka.provision(harness.kafka.catalog())  # restores the other lanes' offsets


def test_recreated_cutouts_are_left_to_the_repair(harness: KafkaRouterHarness) -> None:
    """Provisioning commits no initial offset where results were delivered, and reports that."""
    before = route_three(harness)
    harness.kafka.evict_static_members()
    topic = cutouts_of(harness.lane)
    harness.kafka.delete_topic(topic)
    catalog = harness.kafka.catalog()
    harness.kafka.provision(catalog)
    with harness.kafka.admin as admin:
        planned = plan(admin, catalog)
        assert planned.changes == ()
        assert Partition(topic, 0) in planned.needs_repair
        assert Partition(topic, 1) not in planned.needs_repair
        harness.assert_quarantined(Defect.NO_COMMITTED_OFFSET)
        repair(harness)
        assert Partition(topic, 0) not in plan(admin, catalog).needs_repair
    for upload in (harness.upload_with_result(), harness.upload_with_result()):
        harness.route_until_delivered(upload).close()
    assert len(harness.delivered()) == len(before) + 2


def test_a_gap_breaks_the_partition_unless_it_was_purged(harness: KafkaRouterHarness) -> None:
    """A missing result is never skipped; purged uploads are a finding."""
    first = harness.upload_with_result()
    harness.upload()
    third = harness.upload_with_result()
    harness.assert_quarantined(Defect.RESULTS_MISSING, "1 results are missing")
    assert set(harness.delivered()) <= {first}

    harness.kafka.delete_records({Partition(uploads_of(harness.lane), 0): 2})
    harness.route_until_delivered(third)
    assert harness.delivered() == [first, third]
    (finding,) = harness.findings()
    assert finding.kind is FindingKind.UPLOADS_PURGED_UNPROCESSED
    assert finding.detail.startswith("1 uploads before")


def test_a_forged_producer_in_the_lanes_ledger_does_not_end_the_router(
    harness: KafkaRouterHarness,
) -> None:
    """A batch with its id and a later epoch would fence it wherever it writes after that."""
    first = harness.upload_with_result()
    harness.upload()
    third = harness.upload_with_result()
    harness.kafka.delete_records({Partition(uploads_of(harness.lane), 0): 2})
    account = lane_role(harness.lane, LaneRole.ACCOUNT)
    topic = ledger_of(harness.lane)
    with RawKafka(harness.kafka.cluster, account) as raw:
        known = eventually("a producer id", raw.new_producer_id)
        for producer_id in range(max(0, known - 100), known + 20):
            header = BatchHeader(producer_id=producer_id, epoch=MAX_EPOCH, sequence=0)
            for number in range(harness.kafka.catalog()[topic].partitions):
                sent = raw.produce(topic, number, batch([record(0, None, key=b"key")], header))
                assert sent.error in (NO_ERROR, DUPLICATE_SEQUENCE), producer_id
    # A name that no other test uses, so that the router gets one of the next ids.
    router = harness.start_router(instance="forged")
    router.run_until(lambda: third in harness.delivered_so_far())
    assert harness.delivered() == [first, third]
    assert len(harness.findings()) == 1


def test_expired_results_are_counted(harness: KafkaRouterHarness) -> None:
    """After a long outage the router continues with what is left; later gaps break it still."""
    first = harness.upload_with_result()
    harness.route_until_delivered(first).close()
    for _ in range(3):
        harness.upload_with_result()
    left = harness.upload_with_result()
    cutouts = Partition(cutouts_of(harness.lane), 0)
    harness.kafka.delete_records({cutouts: harness.log_end(cutouts) - 1})
    harness.route_until_delivered(left).close()
    assert harness.delivered() == [first, left]
    (finding,) = harness.findings()
    assert finding.kind is FindingKind.RESULTS_PURGED_UNROUTED
    assert finding.detail.startswith("3 results before")

    _, _, uploaded_at = harness.upload()

    def surely_younger() -> bool:
        return harness.upload()[2] > uploaded_at + MAX_CLOCK_SKEW

    eventually("an upload after the loss", surely_younger, poll_s=0.3)
    harness.upload_with_result()
    harness.assert_quarantined(Defect.RESULTS_MISSING, "results are missing")


def test_a_purged_original_makes_its_result_ephemeral(harness: KafkaRouterHarness) -> None:
    """No cut-out is retained without its photo; such results are counted."""
    upload, position = harness.upload_granted()
    harness.kafka.delete_records({Partition(uploads_of(harness.lane), 0): position.offset + 1})
    running = harness.route_until_delivered(position)
    assert upload not in harness.retained()
    assert running.router.counts["original_gone"] >= 1
    assert running.router.counts["retained"] == 0


def test_an_unavailable_original_is_waited_for(
    harness: KafkaRouterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result is neither delivered nor retained until the original can be read; then both."""
    upload, position = harness.upload_granted()
    nowhere = Connection(
        cluster=Cluster(bootstrap_servers=("127.0.0.1:1",), identities=harness.kafka.identities),
        role=ROUTER,
    )
    waiting = harness.start_router(originals_at=nowhere)
    waiting.run_until(lambda: waiting.router.counts["ephemeral"] > 0 or waiting.loop.has_partitions)
    with monkeypatch.context() as patch:
        patch.setattr(record_fetcher, "ANSWER_TIMEOUT_S", 1.0)
        for _ in range(3):
            waiting.loop.run_once()
    assert position not in harness.delivered(settled_s=LEFT_OPEN_S)
    assert upload not in harness.retained()
    waiting.close()
    harness.route_until_delivered(position)
    assert harness.delivered().count(position) == 1
    assert harness.retained().count(upload) == 2
