"""Offsets are committed up to the first decision that is pending; lanes get equal shares."""

from erasestream.pipeline.stages.erasure.ended_grants import (
    Cause,
    Content,
    DecisionRecord,
    EndedGrant,
)
from erasestream.pipeline.stages.erasure.lane_queues import LaneQueues
from erasestream.pipeline.stages.erasure.pending_decisions import (
    GRANTS_PER_TURN,
    Evaluation,
    OffsetTracker,
    PendingDecision,
    share_of_each_lane,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.topics.kafka.records import Partition, Record

ONE, OTHER = Partition("consent.shop", 0), Partition("consent.shop", 1)
SHOP, BULK = Lane("shop"), Lane("bulk")
ACCOUNT = AccountId("acct")


def record(at: Partition, offset: int) -> Record:
    return Record(at, offset, 0, b"key", [], b"")


def pending(*records: Record) -> list[PendingDecision]:
    return [decision(each.at, each.offset, Lane("shop")) for each in records]


def decision(at: Partition, offset: int, lane: Lane) -> PendingDecision:
    content = DecisionRecord(lane, ACCOUNT, 0, Content.REVOCATION, "id")
    return PendingDecision(at, offset, content)


def decisions(lane: Lane, count: int) -> list[PendingDecision]:
    return [decision(Partition(f"consent.{lane}", 0), offset, lane) for offset in range(count)]


def test_without_pending_decisions_all_that_was_read_is_committed() -> None:
    offsets = OffsetTracker()
    assert offsets.advance([record(ONE, 3), record(ONE, 4), record(OTHER, 9)], []) == {
        ONE: 5,
        OTHER: 10,
    }
    assert offsets.advance([], []) == {}


def test_a_pending_decision_holds_back_its_own_partition_only() -> None:
    offsets = OffsetTracker()
    read = [record(ONE, 3), record(ONE, 4), record(ONE, 5), record(OTHER, 9)]
    assert offsets.advance(read, pending(record(ONE, 4))) == {ONE: 4, OTHER: 10}
    assert offsets.advance([record(ONE, 4)], []) == {ONE: 6}


def test_a_turn_takes_equally_many_decisions_of_each_lane() -> None:
    """Those that waited longest; one that is not done waits behind the others of its lane."""
    queues = LaneQueues(limit=100)
    shop, bulk = decisions(SHOP, 5), decisions(BULK, 1)
    queues.add([*shop, *bulk])
    first = queues.take(2)
    assert first == [*shop[:2], *bulk]
    queues.add(first[:1])
    assert queues.take(2) == shop[2:4]
    assert queues.take(2) == [shop[4], shop[0]]
    assert len(queues) == 0


def test_a_full_lane_is_read_again_once_half_of_it_is_done() -> None:
    """And no other lane is full."""
    queues = LaneQueues(limit=4)
    queues.add([*decisions(SHOP, 4), *decisions(BULK, 3)])
    assert queues.full() == {SHOP}
    queues.take(1)
    assert queues.full() == {SHOP}
    queues.take(1)
    assert queues.full() == set()


def test_a_turn_erases_equally_many_grants_of_each_lane() -> None:
    """A grant that several decisions end counts once, and ends because of the first."""
    many = [EndedGrant(SHOP, ACCOUNT, GrantId(f"shop-{n}")) for n in range(GRANTS_PER_TURN + 1)]
    few = [EndedGrant(BULK, ACCOUNT, GrantId(f"bulk-{n}")) for n in range(3)]
    (shop,), (bulk,) = decisions(SHOP, 1), decisions(BULK, 1)
    first, second = Cause("first", 1), Cause("second", 2)
    evaluated = [
        Evaluation(shop, dict.fromkeys(many[:2], first)),
        Evaluation(shop, None),
        Evaluation(shop, dict.fromkeys(many, second)),
        Evaluation(bulk, dict.fromkeys(few, first)),
    ]
    share = share_of_each_lane(evaluated)
    assert list(share) == [*many[:GRANTS_PER_TURN], *few]
    assert [share[each] for each in many[:3]] == [first, first, second]
