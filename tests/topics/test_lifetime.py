"""The sums of the promise: short enough for the customer, long enough for the next stage."""

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog import RETAINED, Catalog, LaneSpec, ephemeral_of
from erasestream.topics.lifetime import HOUR_S, BrokerTimes, LaneTimes, Policy

SHOP = Lane("shop")
HOURS = st.floats(0.001, 30)


def catalog(times: LaneTimes, policy: Policy | None = None) -> Catalog:
    """One lane with these times."""
    return Catalog.build((LaneSpec(name=SHOP, times=times),), policy=policy)


def test_defaults_leave_an_hour_in_reserve() -> None:
    """Four hours of backlog, and what is delivered is gone 23 hours after the upload."""
    ephemeral = catalog(LaneTimes())[ephemeral_of(SHOP)].lifetime
    assert ephemeral
    assert ephemeral.worst_age_s == 23 * HOUR_S
    assert ephemeral.retention_ms + ephemeral.segment_ms == pytest.approx(
        (23 - 4) * HOUR_S * 1000 - 60_000 - 360_000
    )


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(backlog=HOURS, delivery=st.none() | HOURS, segment=HOURS, check=HOURS, router=HOURS)
def test_what_is_accepted_keeps_both_promises(
    backlog: float, delivery: float | None, segment: float, check: float, router: float
) -> None:
    """Whatever the settings: no image topic exceeds the budget, and none starves its reader."""
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
        LaneTimes(backlog_limit_s=12 * HOUR_S),  # retained lives 12 h more
    ],
)
def test_what_would_outlive_the_promise_is_refused(times: LaneTimes) -> None:
    """With the topic and the sum."""
    with pytest.raises(Refused, match=r"worst age|retention") as refused:
        catalog(times)
    assert refused.value.code is Code.PROMISE_EXCEEDED


def test_slowest_lane_decides_for_retained() -> None:
    """What all lanes share is as old as the oldest that comes in."""
    slow = LaneSpec(name=Lane("bulk"), times=LaneTimes(backlog_limit_s=8 * HOUR_S))
    both = Catalog.build((LaneSpec(name=SHOP), slow))[RETAINED].lifetime
    assert both
    assert both.age_when_appended_s == 8 * HOUR_S + 60
