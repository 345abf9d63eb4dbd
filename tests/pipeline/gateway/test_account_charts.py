"""The charts of what is held, on the account page."""

from datetime import UTC, date, datetime, timedelta

from erasestream.pipeline.gateway.account_page.view import CHART_HEIGHT, Bar, by_day, by_hour

NOW = datetime(2026, 11, 30, 17, tzinfo=UTC)
TODAY = NOW.date()


def test_kept_uploads_are_shown_for_each_of_thirty_days() -> None:
    """The largest is the highest, and a single one is seen beside it; older ones are not shown."""
    held = {TODAY: 1000, TODAY - timedelta(days=29): 1, date(2026, 1, 1): 5000}
    first, *between, last = by_day(held, NOW)
    assert first == Bar("1 Nov 2026", 1, 2)
    assert last == Bar("30 Nov 2026", 1000, CHART_HEIGHT)
    assert len(between) == 28
    assert {each.height for each in between} == {0}


def test_uploads_are_shown_by_the_hour_in_which_they_are_gone() -> None:
    """One that is due by now is in the first, and none is beyond the last."""
    minutes = (-1, 0, 59, 60, 24 * 60)
    gone = [NOW + timedelta(minutes=each) for each in minutes]
    numbers = [each.number for each in by_hour(gone, NOW)]
    assert numbers == [3, 1, *[0] * 21, 1]
    assert [each.number for each in by_hour([], NOW)] == [0] * 24
