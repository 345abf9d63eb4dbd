"""Uploads of the last day, by account and in bounded memory."""

from datetime import UTC, datetime, timedelta

from erasestream.pipeline.gateway.recent_uploads import RecentUploads
from erasestream.schemas.ids import AccountId

ONE, OTHER = AccountId("one"), AccountId("other")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def test_an_account_sees_its_own_of_the_last_day() -> None:
    recent = RecentUploads()
    for account, hours in ((ONE, 25), (ONE, 23), (OTHER, 2), (ONE, 1)):
        recent.note(account, ago(hours))
    assert recent.of(ONE, NOW) == [ago(1), ago(23)]
    assert recent.of(OTHER, NOW) == [ago(2)]
    assert recent.of(AccountId("nobody"), NOW) == []


def test_the_oldest_are_forgotten_first() -> None:
    recent = RecentUploads(most=2)
    for account, hours in ((ONE, 3), (OTHER, 2), (ONE, 1)):
        recent.note(account, ago(hours))
    assert recent.of(ONE, NOW) == [ago(1)]
    recent.note(OTHER, ago(0.5))
    recent.note(OTHER, ago(0.25))
    assert recent.of(ONE, NOW) == []
