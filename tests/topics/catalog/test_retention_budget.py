"""Retention budget: short enough for the promise, long enough for the next stage."""

import math

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog, LaneSpec, retention_budget
from erasestream.topics.catalog.retention_budget import HOUR_S, BrokerTimes, LaneTimes, Policy
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, ephemeral_of, uploads_of

SHOP = Lane("shop")
HOURS = st.floats(0.001, 30)


def catalog(times: LaneTimes, policy: Policy | None = None) -> Catalog:
    return Catalog.build((LaneSpec(name=SHOP, times=times),), policy=policy)


def test_defaults_leave_an_hour_in_reserve() -> None:
    """Four hours of backlog; delivered results are deleted 23 hours after the upload."""
    ephemeral = catalog(LaneTimes())[ephemeral_of(SHOP)].lifetime
    assert ephemeral
    assert ephemeral.worst_age_s == 23 * HOUR_S
    assert ephemeral.retention_ms + ephemeral.segment_ms == pytest.approx(
        (23 - 4) * HOUR_S * 1000 - 60_000 - 360_000
    )


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(backlog=HOURS, delivery=st.none() | HOURS, segment=HOURS, check=HOURS, router=HOURS)
def test_accepted_settings_keep_both_promises(
    backlog: float, delivery: float | None, segment: float, check: float, router: float
) -> None:
    """No image topic exceeds the budget, and none starves its reader."""
    times = LaneTimes(
        backlog_limit_s=backlog * HOUR_S,
        delivery_s=None if delivery is None else delivery * HOUR_S,
    )
    policy = Policy(
        segment_s=segment * HOUR_S,
        router_outage_s=router * HOUR_S,
        broker=BrokerTimes(check_interval_s=check * HOUR_S),
    )
    try:
        accepted = catalog(times, policy)
    except Refused:
        reject()
    for topic in accepted.topics:
        life = topic.lifetime
        if life:
            config = accepted.config(topic)
            worst_s = (
                life.age_when_appended_s
                + (int(config["segment.ms"]) + int(config["retention.ms"])) / 1000
                + check * HOUR_S
                + int(config["file.delete.delay.ms"]) / 1000
            )
            assert worst_s <= 23 * HOUR_S + 1e-6
            assert life.retention_s >= life.needed_s


@pytest.mark.parametrize(
    "times",
    [
        LaneTimes(backlog_limit_s=24 * HOUR_S),
        LaneTimes(backlog_limit_s=4 * HOUR_S, delivery_s=19 * HOUR_S),
        LaneTimes(backlog_limit_s=12 * HOUR_S),  # retained adds 12 h
    ],
)
def test_lifetimes_beyond_the_promise_are_refused(times: LaneTimes) -> None:
    with pytest.raises(Refused, match=r"worst age|retention") as refused:
        catalog(times)
    assert refused.value.code is Code.PROMISE_EXCEEDED


def test_the_slowest_lane_determines_retained() -> None:
    slow = LaneSpec(name=Lane("bulk"), times=LaneTimes(backlog_limit_s=8 * HOUR_S))
    both = Catalog.build((LaneSpec(name=SHOP), slow))[RETAINED].lifetime
    assert both
    assert both.age_when_appended_s == 8 * HOUR_S + 60


SECONDS = st.floats(0.001, 100_000).map(lambda s: round(s, 3))


@given(promise=st.floats(4000, 86_400), reserve=SECONDS, segment=SECONDS, backlog=SECONDS)
def test_rounding_never_refuses_the_remaining_time(
    promise: float, reserve: float, segment: float, backlog: float
) -> None:
    policy = Policy(promise_s=promise, reserve_s=reserve, segment_s=segment)
    life = retention_budget.ephemeral(policy, LaneTimes(backlog_limit_s=backlog))
    if life.retention_s >= segment:
        retention_budget.verify(policy, "ephemeral.shop", life)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(promise_s=24 * HOUR_S + 1),
        Policy(promise_s=48 * HOUR_S),
        Policy(promise_s=48 * HOUR_S, reserve_s=25 * HOUR_S),
        Policy(reserve_s=-1.0),
        Policy(promise_s=math.nan),
        Policy(promise_s=math.inf),
        Policy(segment_s=math.nan),
        Policy(router_outage_s=math.nan),
        Policy(reserve_s=math.nan),
        Policy(broker=BrokerTimes(delete_delay_s=math.nan)),
    ],
)
def test_no_policy_can_promise_more_than_24_hours(policy: Policy) -> None:
    """Nor borrow from the reserve, nor use values that are not numbers."""
    with pytest.raises(Refused) as refused:
        catalog(LaneTimes(), policy)
    assert refused.value.code is Code.PROMISE_EXCEEDED


def test_one_millisecond_too_much_is_refused() -> None:
    """The bound is exact, except for rounding errors of the sum."""
    exact = catalog(LaneTimes())[ephemeral_of(SHOP)].lifetime
    assert exact
    catalog(LaneTimes(delivery_s=exact.retention_s))
    with pytest.raises(Refused, match="worst age"):
        catalog(LaneTimes(delivery_s=exact.retention_s + 0.001))


def test_records_outlive_the_promised_outages() -> None:
    """Backlog and half an hour for uploads, four hours for cut-outs, twelve for retained."""
    topics = catalog(LaneTimes())
    retention = {t.name: t.lifetime.retention_s / HOUR_S for t in topics.topics if t.lifetime}
    assert retention[uploads_of(SHOP)] == 4.5
    assert retention[cutouts_of(SHOP)] == 4
    assert retention[RETAINED] == 12
