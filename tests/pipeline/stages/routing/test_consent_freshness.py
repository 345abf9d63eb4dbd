"""Each lane waits until its own decisions are applied, and for no other lane."""

import logging
from collections.abc import Collection

import pytest

from erasestream.pipeline.stages.routing.consent_freshness import (
    LOGGED_AFTER_S,
    RETRY_S,
    ConsentFreshness,
)
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.topic_names import consent_of, cutouts_of
from erasestream.topics.consent.view import ActiveGrant
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition

SHOP, BULK = Lane("shop"), Lane("bulk")
OF_SHOP, OF_BULK = Partition(cutouts_of(SHOP), 0), Partition(cutouts_of(BULK), 0)


class FakeView:
    """A view whose offsets the test moves; each lane has one partition of decisions."""

    def __init__(self) -> None:
        self.ends = {SHOP: 0, BULK: 0}
        self.arrived = {SHOP: 0, BULK: 0}
        self.unavailable: set[Lane] = set()
        self.asked: list[set[Lane]] = []
        self.reread_lanes: list[Lane] = []
        self._applied = {SHOP: 0, BULK: 0}

    def marks(self, lanes: Collection[Lane], *, timeout_s: float) -> dict[Lane, Mark]:
        assert timeout_s > 0
        self.asked.append(set(lanes))
        return {lane: _mark(lane, self.ends[lane]) for lane in {*lanes} - self.unavailable}

    def read(self) -> None:
        self._applied = dict(self.arrived)

    def applied(self, lane: Lane) -> Mark:
        return _mark(lane, self._applied[lane])

    def reread(self, lane: Lane) -> None:
        self.reread_lanes.append(lane)
        self.arrived[lane] = 0

    def active_grant(self, lane: Lane, account: AccountId) -> ActiveGrant | None:
        raise NotImplementedError

    def mark_of(self, lane: Lane, account: AccountId) -> str:
        raise NotImplementedError


def _mark(lane: Lane, offset: int) -> Mark:
    return {Partition(consent_of(lane), 0): offset}


class Harness:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.view = FakeView()
        self.freshness = ConsentFreshness(view=self.view, clock=lambda: self.now_s)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_lane_waits_for_its_own_decisions(harness: Harness) -> None:
    """The other is decided meanwhile; one request takes the marks of both."""
    view, freshness = harness.view, harness.freshness
    view.ends[SHOP] = 3
    freshness.on_read([OF_SHOP, OF_BULK])
    assert view.asked == [{SHOP, BULK}]
    assert not freshness.is_fresh(OF_SHOP)
    assert freshness.is_fresh(OF_BULK)
    view.arrived[SHOP] = 3
    assert freshness.is_fresh(OF_SHOP)


def test_waiting_asks_for_no_other_mark(harness: Harness) -> None:
    """A lane that keeps deciding waits for what was decided before its results were read."""
    view, freshness = harness.view, harness.freshness
    view.ends[SHOP] = 3
    freshness.on_read([OF_SHOP])
    view.ends[SHOP], view.arrived[SHOP] = 9, 3
    assert freshness.is_fresh(OF_SHOP)
    assert len(view.asked) == 1


def test_a_lane_without_a_mark_is_not_fresh(harness: Harness) -> None:
    """It is asked about again after a while, and until then in no request."""
    view, freshness = harness.view, harness.freshness
    view.unavailable = {SHOP}
    freshness.on_read([OF_SHOP, OF_BULK])
    assert not freshness.is_fresh(OF_SHOP)
    freshness.on_read([OF_SHOP, OF_BULK])
    assert view.asked == [{SHOP, BULK}, {BULK}]
    assert freshness.is_fresh(OF_BULK)
    view.unavailable = set()
    assert not freshness.is_fresh(OF_SHOP)
    harness.now_s += RETRY_S
    assert freshness.is_fresh(OF_SHOP)
    assert view.asked[2:] == [{SHOP}]


@pytest.mark.parametrize("what", ["ends", "arrived"])
def test_decisions_that_went_back_break_the_lane_only(harness: Harness, what: str) -> None:
    """All of its decisions are read again, and then it is as fresh as any."""
    view, freshness = harness.view, harness.freshness
    view.ends[SHOP] = view.arrived[SHOP] = 5
    freshness.on_read([OF_SHOP, OF_BULK])
    assert freshness.is_fresh(OF_SHOP)
    getattr(view, what)[SHOP] = 2
    freshness.on_read([OF_SHOP, OF_BULK])
    with pytest.raises(PartitionBroken, match="went back to 2") as raised:
        freshness.is_fresh(OF_SHOP)
    assert (raised.value.at, raised.value.defect) == (OF_SHOP, Defect.CONSENT_WENT_BACK)
    assert view.reread_lanes == [SHOP]
    assert freshness.is_fresh(OF_BULK)
    view.ends[SHOP] = view.arrived[SHOP] = 2
    freshness.on_read([OF_SHOP])
    assert freshness.is_fresh(OF_SHOP)


def test_long_waiting_is_logged_once(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    harness.view.ends[SHOP] = 1
    harness.freshness.on_read([OF_SHOP])
    for _ in range(3):
        assert not harness.freshness.is_fresh(OF_SHOP)
        harness.now_s += LOGGED_AFTER_S
    assert [(r.message, r.topic) for r in caplog.records] == [  # type: ignore[attr-defined]
        ("waiting_for_consent", consent_of(SHOP))
    ]
