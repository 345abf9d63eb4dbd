"""The moment after which nothing can open an image."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.gateway.retention_deadline import RetentionDeadlines
from erasestream.topics.catalog.epochs import EpochTimes

TIMES, DAY = EpochTimes(), timedelta(hours=24)
DEADLINES = RetentionDeadlines(TIMES, promise=DAY)
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SKEW = timedelta(seconds=TIMES.clock_error_s)
DESTRUCTION = timedelta(seconds=TIMES.destruction_s)


@given(
    uploaded=st.datetimes(datetime(2026, 1, 1), datetime(2026, 2, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    skew=st.timedeltas(-SKEW, SKEW),
)
def test_every_key_that_may_open_it_is_destroyed_and_the_promise_is_kept(
    uploaded: datetime, skew: timedelta
) -> None:
    """Whatever the clocks of its producer and of the key service were."""
    deadline = DEADLINES.of(uploaded)
    assert deadline <= uploaded + DAY
    destroyed = TIMES.dies(TIMES.number(uploaded + skew)) + SKEW + DESTRUCTION
    assert deadline >= min(destroyed, uploaded + DAY)


def test_an_image_that_is_not_sealed_has_a_day() -> None:
    assert RetentionDeadlines(None, promise=DAY).of(BEGIN) == BEGIN + DAY


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (timedelta(0), "Mon, 02 Mar 2026 11:00:00 GMT"),
        (timedelta(minutes=30), "Mon, 02 Mar 2026 11:00:00 GMT"),
        (timedelta(minutes=56), "Mon, 02 Mar 2026 12:00:00 GMT"),
    ],
)
def test_the_header_is_a_date_of_http(after: timedelta, text: str) -> None:
    assert DEADLINES.header(BEGIN + after, is_retained=False) == text
    assert DEADLINES.header(BEGIN + after, is_retained=True) == "opt-in"


def test_a_second_that_has_begun_counts() -> None:
    deadlines = RetentionDeadlines(None, promise=DAY)
    at = BEGIN + timedelta(microseconds=1)
    assert deadlines.header(at, is_retained=False) == "Mon, 02 Mar 2026 12:00:01 GMT"
