"""One lane is broken in each way that a router notices; the other lane's results go on.

On a real broker, with one router for both lanes, and with the repair beside it.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ADMIN, ROUTER
from erasestream.topics.catalog.topic_names import consent_of, cutouts_of
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction import quarantine
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.routing.router_harness import KafkaRouterHarness
from tests.pipeline.stages.routing.running_router import RunningRouter


class TwoLanes:
    """A lane that breaks, one that does not, and a router of both."""

    def __init__(self, broken: KafkaRouterHarness, other: KafkaRouterHarness) -> None:
        self.broken, self.other = broken, other
        self.router: RunningRouter | None = None

    @property
    def partition(self) -> Partition:
        """The partition that breaks."""
        return Partition(cutouts_of(self.broken.lane), 0)

    def start_router(self) -> RunningRouter:
        router = RunningRouter(
            self.broken.kafka, self.broken.lane, self.other.lane, instance=self.broken.lane
        )
        self.router = router
        return router

    def assert_other_goes_on(self) -> None:
        """Assert that new uploads of the other lane get their results, one each."""
        assert self.router
        before = self.other.delivered()
        new = [self.other.upload_with_result(number) for number in (0, 1, 0)]
        arrived = set[object]()

        def have_all_arrived() -> bool:
            arrived.update(self.other.delivered_so_far())
            return arrived >= set(new)

        self.router.run_until(have_all_arrived)
        assert sorted(self.other.delivered()) == sorted([*before, *new])

    def repair(self) -> list[str]:
        recovery = RouterRecovery(
            connection=self.broken.kafka.connection(ADMIN),
            catalog=self.broken.kafka.catalog(),
            actor="operator:test",
        )
        with closing(recovery):
            return list(recovery.recover(self.broken.lane))

    def close(self) -> None:
        if self.router:
            self.router.close()
        self.broken.close()
        self.other.close()


@pytest.fixture
def lanes(kafka: KafkaFixture, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoLanes]:
    monkeypatch.setattr(quarantine, "FIRST_PAUSE_S", 0.5)
    lanes = TwoLanes(KafkaRouterHarness(kafka, lane), KafkaRouterHarness(kafka, kafka.open_lane()))
    yield lanes
    lanes.close()


def write_garbage(lane: KafkaRouterHarness) -> None:
    """Write a result that is none."""
    lane.produce(cutouts_of(lane.lane), [b"garbage"])


def leave_a_result_out(lane: KafkaRouterHarness) -> None:
    """Upload without a result, while the upload still exists."""
    lane.upload()
    lane.upload_with_result()


def write_a_foreign_result(lane: KafkaRouterHarness) -> None:
    """Write a result of a topic that the brokers do not have."""
    upload, position, at = lane.upload()
    lane.write_result(upload, position._replace(topic_id="A" * 22), at)


BREAKS = [
    (write_garbage, Defect.UNDECIDABLE_RECORD),
    (leave_a_result_out, Defect.RESULTS_MISSING),
    (write_a_foreign_result, Defect.UNDECIDABLE_RECORD),
]


@pytest.mark.parametrize(("break_lane", "defect"), BREAKS)
def test_a_record_breaks_its_partition_until_it_is_repaired(
    lanes: TwoLanes, break_lane: Callable[[KafkaRouterHarness], None], defect: Defect
) -> None:
    """While the router runs.  Results behind it wait, and arrive once each after the repair."""
    first = lanes.broken.upload_with_result()
    router = lanes.start_router()
    router.run_until(lambda: first in lanes.broken.delivered_so_far())
    break_lane(lanes.broken)
    router.run_until(lambda: router.findings)
    assert router.quarantine.partitions() == [(*lanes.partition, defect)]
    behind = [lanes.broken.upload_with_result(number) for number in (0, 1)]
    lanes.assert_other_goes_on()
    router.run_until(lambda: behind[1] in lanes.broken.delivered_so_far())
    assert behind[0] not in lanes.broken.delivered()
    repaired, unchanged = lanes.repair()
    assert repaired.startswith(f"{lanes.partition}: from ")
    assert unchanged.endswith("left unchanged")
    router.run_until(lambda: behind[0] in lanes.broken.delivered_so_far())
    delivered = lanes.broken.delivered()
    assert all(delivered.count(each) == 1 for each in (first, *behind))
    assert len(router.findings) == 1


@pytest.mark.parametrize(
    ("offset", "has_mark", "defect"),
    [(1, False, Defect.UNREADABLE_MARK), (1_000_000, True, Defect.OFFSET_OUT_OF_RANGE)],
)
def test_a_committed_offset_breaks_its_partition_until_it_is_repaired(
    lanes: TwoLanes, offset: int, has_mark: bool, defect: Defect
) -> None:
    """Nothing that was routed before is repeated."""
    kafka = lanes.broken.kafka
    first = lanes.broken.upload_with_result()
    before = lanes.start_router()
    before.run_until(lambda: first in lanes.broken.delivered_so_far())
    before.close()
    kafka.evict_static_members()
    mark = str(ReplayMark(topic_id=lanes.broken.topic_id, offset=0)) if has_mark else ""
    kafka.groups.commit(ROUTER, lanes.partition, offset, metadata=mark)
    waiting = lanes.broken.upload_with_result()
    router = lanes.start_router()
    router.run_until(lambda: router.findings)
    assert router.quarantine.partitions() == [(*lanes.partition, defect)]
    lanes.assert_other_goes_on()
    lanes.repair()
    router.run_until(lambda: waiting in lanes.broken.delivered_so_far())
    assert lanes.broken.delivered() == [first, waiting]


def test_decisions_that_went_back_break_their_lane_until_they_are_read_again(
    lanes: TwoLanes,
) -> None:
    """The topic was deleted and created again: fewer decisions than before."""
    kafka, topic = lanes.broken.kafka, consent_of(lanes.broken.lane)
    owners = lanes.broken.consent_writer()
    for number in range(3):
        owners.grant(f"acct-{number}", actor="owner", channel=Channel.LIBRARY)
    first = lanes.broken.upload_with_result()
    router = lanes.start_router()
    router.run_until(lambda: first in lanes.broken.delivered_so_far())
    kafka.delete_topic(topic)
    kafka.provision(kafka.catalog())
    second = lanes.broken.upload_with_result()
    router.run_until(lambda: router.findings)
    assert [each.code for each in router.quarantine.partitions()] == [Defect.CONSENT_WENT_BACK]
    lanes.assert_other_goes_on()
    router.run_until(lambda: second in lanes.broken.delivered_so_far())
    assert lanes.broken.delivered() == [first, second]
