"""Repair after routers were stopped for longer than brokers keep their offsets and results."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import OFFSET_END

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.base import Position
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Partition
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness

NUMBER = 0


def now() -> datetime:
    return datetime.now(UTC)


def repair(harness: KafkaRouterHarness, *, clock: WallClock = now) -> None:
    recovery = RouterRecovery(
        connection=harness.kafka.connection(ADMIN),
        catalog=harness.kafka.catalog_of(harness.lane),
        actor="operator:test",
        now=clock,
    )
    with closing(recovery):
        list(recovery.recover(harness.lane))


def expire(harness: KafkaRouterHarness, *topics: str) -> None:
    """Delete all records of the lane's partition in these topics, as retention does."""
    harness.kafka.delete_records({Partition(topic, NUMBER): OFFSET_END for topic in topics})


@contextmanager
def offsets_expired(harness: KafkaRouterHarness) -> Iterator[None]:
    """Delete the offsets of the routers' group, which has no members."""
    harness.kafka.evict_static_members()
    harness.kafka.delete_group(ROUTER)
    try:
        yield
    finally:
        harness.kafka.evict_static_members()
        harness.kafka.provision(harness.kafka.catalog())  # restores the other lanes' offsets


def route(harness: KafkaRouterHarness, count: int) -> list[Position]:
    routed = [harness.upload_with_result() for _ in range(count)]
    harness.route_until_delivered(*routed).close()
    return routed


def test_nothing_is_left_and_the_next_upload_is_routed(harness: KafkaRouterHarness) -> None:
    """The router quarantines the partition, provisioning names it, and it is repaired."""
    lane = harness.lane
    before = route(harness, 3)
    with offsets_expired(harness):
        expire(harness, ephemeral_of(lane), cutouts_of(lane), uploads_of(lane))
        new = harness.upload_with_result()
        harness.assert_quarantined(Defect.NO_COMMITTED_OFFSET)
        broken = Partition(cutouts_of(lane), NUMBER)
        with harness.kafka.admin as admin:
            # The group has a member now: the session of the router outlives it.
            assert broken in plan(admin, harness.kafka.catalog()).needs_repair
            repair(harness)
            assert broken not in plan(admin, harness.kafka.catalog()).needs_repair
        harness.route_until_delivered(new).close()
        assert harness.delivered_so_far() == [*before, new]


def test_what_is_left_was_never_routed_and_is_routed_once(harness: KafkaRouterHarness) -> None:
    """Also a result whose upload is deleted; replays of inference vanish."""
    lane = harness.lane
    before = route(harness, 3)
    with offsets_expired(harness):
        expire(harness, ephemeral_of(lane), cutouts_of(lane), uploads_of(lane))
        first, second = harness.upload(), harness.upload()
        for each in (first, second, first, second):
            harness.write_result(*each)
        harness.kafka.delete_records({Partition(uploads_of(lane), NUMBER): first[1].offset + 1})
        last = harness.upload_with_result()
        repair(harness)
        routed = harness.route_until_delivered(last)
        assert harness.delivered_so_far() == [*before, first[1], second[1], last]
        assert not {"purged", "unrouted"} & routed.router.counts.keys()


def test_results_that_were_deleted_unread_are_counted(harness: KafkaRouterHarness) -> None:
    lane = harness.lane
    route(harness, 1)
    with offsets_expired(harness):
        expire(harness, ephemeral_of(lane), uploads_of(lane))
        harness.upload_with_result()
        expire(harness, cutouts_of(lane))
        last = harness.upload_with_result()
        repair(harness)
        assert harness.route_until_delivered(last).router.counts["unrouted"] == 1


@pytest.mark.parametrize("left", [uploads_of, cutouts_of])
def test_what_may_have_been_routed_is_neither_lost_nor_repeated(
    harness: KafkaRouterHarness, left: object
) -> None:
    """The rest is as old as the deleted results: repaired once it has expired, too."""
    lane = harness.lane
    before = route(harness, 1)
    deleted = cutouts_of(lane) if left is uploads_of else uploads_of(lane)
    expire(harness, ephemeral_of(lane), deleted)
    broken = Partition(cutouts_of(lane), NUMBER)
    harness.kafka.evict_static_members()
    harness.kafka.groups.commit(ROUTER, broken, 1, metadata="")
    lifetime = harness.kafka.catalog()[ephemeral_of(lane)].lifetime
    assert lifetime
    later = timedelta(seconds=lifetime.retention_s)
    with pytest.raises(Refused, match="once it has expired"):
        repair(harness, clock=lambda: now() + later)
    expire(harness, uploads_of(lane), cutouts_of(lane))
    repair(harness, clock=lambda: now() + later)
    new = harness.upload_with_result()
    harness.route_until_delivered(new).close()
    assert harness.delivered_so_far() == [*before, new]
