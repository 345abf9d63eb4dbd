"""Lives of the keys of epochs: the sum, both refusals, and the same code at another scale."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.errors import PromiseExceeded
from erasestream.topics.catalog.epochs import EpochTimes, verify
from erasestream.topics.catalog.retention_budget import HOUR_S, LaneTimes, Policy

TIMES = EpochTimes()
LANES = (LaneTimes(),)
SCALE = 24 * HOUR_S / 60
SCALED = EpochTimes(
    promise_s=60,
    length_s=HOUR_S / SCALE,
    clock_error_s=300 / SCALE,
    destruction_s=600 / SCALE,
    delivery_s=12 * HOUR_S / SCALE,
)
MOMENTS = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 (Hypothesis adds the zone)
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def test_an_upload_can_be_opened_for_about_22_hours() -> None:
    assert TIMES.window_s == 21.5 * HOUR_S + 600
    verify(TIMES, Policy(), LANES)


@given(MOMENTS, st.sampled_from([TIMES, SCALED]))
def test_a_key_dies_in_time_and_not_too_early(uploaded: datetime, times: EpochTimes) -> None:
    """By any clock within the error: destroyed before 24 h, and alive for the window."""
    number = times.number(uploaded)
    rounding = timedelta(milliseconds=1)
    assert times.begins(number) <= uploaded + rounding
    assert uploaded < times.begins(number + 1) + rounding
    dies = times.dies(number)
    late = timedelta(seconds=times.clock_error_s + times.destruction_s)
    assert dies + late <= times.published(number) + timedelta(seconds=times.promise_s) + rounding
    early = timedelta(seconds=times.clock_error_s)
    assert dies - early >= uploaded + timedelta(seconds=times.window_s) - rounding
    assert not times.is_dead(number, dies - rounding)
    assert times.is_dead(number, dies + rounding)


def test_an_absurd_epoch_is_no_error() -> None:
    assert not TIMES.is_dead(10**18 - 1, datetime.now(UTC))


@given(MOMENTS, st.sampled_from([0.5, 0.99, 0.9999, 1.0001, 1.01, 2, 3]))
def test_keys_of_another_length_of_epochs_are_due(at: datetime, factor: float) -> None:
    """Those of this length are due once they are dead, and not before."""
    assert TIMES.is_due(replace(TIMES, length_s=factor * TIMES.length_s).number(at), at)
    for ahead in range(-30, 3):
        number = TIMES.number(at) + ahead
        assert TIMES.is_due(number, at) == TIMES.is_dead(number, at)


@pytest.mark.parametrize(
    "times",
    [
        replace(TIMES, promise_s=25 * HOUR_S),
        replace(TIMES, promise_s=float("nan")),
        replace(TIMES, length_s=0),
        replace(TIMES, clock_error_s=-1),
        replace(TIMES, clock_error_s=float("nan")),
        replace(TIMES, destruction_s=0),
    ],
)
def test_a_key_that_would_outlive_the_promise_is_refused(times: EpochTimes) -> None:
    with pytest.raises(PromiseExceeded):
        verify(times, Policy(), LANES)


@pytest.mark.parametrize(
    ("times", "lane", "policy"),
    [
        (replace(TIMES, length_s=4 * HOUR_S), LaneTimes(), Policy()),
        (replace(TIMES, delivery_s=18 * HOUR_S), LaneTimes(), Policy()),
        (TIMES, LaneTimes(backlog_limit_s=10 * HOUR_S), Policy()),
        (TIMES, LaneTimes(delivery_s=18 * HOUR_S), Policy()),
        (TIMES, LaneTimes(delivery_s=1), Policy(sink_outage_s=18 * HOUR_S)),
    ],
)
def test_a_key_that_would_die_too_early_is_refused(
    times: EpochTimes, lane: LaneTimes, policy: Policy
) -> None:
    with pytest.raises(PromiseExceeded, match="can be opened for"):
        verify(times, policy, (LaneTimes(), lane))
