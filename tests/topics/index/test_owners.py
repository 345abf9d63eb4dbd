"""Uploads of the last day, by account and without its id."""

from datetime import UTC, datetime, timedelta

from erasestream.topics.index.owners import RecentUploads

ONE, OTHER = b"1" * 16, b"2" * 16
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def test_an_account_sees_its_own_of_the_last_day() -> None:
    recent = RecentUploads()
    for owner, hours in ((ONE, 25), (ONE, 1), (OTHER, 2), (ONE, 23)):
        recent.note(owner, int(ago(hours).timestamp() * 1000))
    assert recent.of(ONE, NOW) == [ago(1), ago(23)]
    assert recent.of(OTHER, NOW) == [ago(2)]
    assert recent.of(b"3" * 16, NOW) == []
    recent.drop_old(NOW + timedelta(hours=22.5))
    assert recent.of(ONE, NOW) == [ago(1)]
    assert recent.of(OTHER, NOW) == []
