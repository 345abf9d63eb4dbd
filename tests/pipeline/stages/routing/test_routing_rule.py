"""The rule of keeping: in doubt a result is forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.stages.routing.routing_rule import Route, is_original, route_of
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import Cutout, Failure, Upload
from erasestream.schemas.ids import INVALID_ACCOUNT, AccountId, UploadId
from tests.schemas.samples import headers_of

UPLOADED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = UploadId("018f3c4e-0000-7000-8000-000000000001")
OTHER_ID = UploadId("018f3c4e-0000-7000-8000-000000000002")
ACCOUNT, OTHER = AccountId("acct"), AccountId("acct-2")
LIMIT = timedelta(hours=4)
TICK = timedelta(milliseconds=1)
SPAN = st.timedeltas(timedelta(days=-2), timedelta(days=2))


def cutout(account: AccountId = ACCOUNT) -> Cutout:
    """The result of an upload."""
    return Cutout(
        id=ID,
        time=UPLOADED,
        account=account,
        position=Position(topic_id="A" * 22, partition=0, offset=7),
        uploaded_at=UPLOADED,
        content_type="image/png",
        model="tiny",
        model_sha256="0" * 64,
        model_version="1",
        data=b"cut-out",
    )


def failure() -> Failure:
    """The failed result of an upload."""
    return Failure(
        id=ID,
        time=UPLOADED,
        account=ACCOUNT,
        position=Position(topic_id="A" * 22, partition=0, offset=7),
        uploaded_at=UPLOADED,
        code="corrupt",
        sentence="Damaged.",
    )


def way(
    result: Cutout | Failure, granted_at: datetime | None, *, age: timedelta = timedelta(0)
) -> Route:
    """Its way at an age."""
    now = UPLOADED + age
    return route_of(headers_of(result), granted_at=granted_at, now=now, backlog_limit=LIMIT)


@given(after=SPAN | st.sampled_from([MAX_CLOCK_SKEW, MAX_CLOCK_SKEW + TICK, timedelta(0)]))
def test_kept_only_if_uploaded_surely_after_the_grant(after: timedelta) -> None:
    """By more than two brokers' clocks can be apart; at exactly that it is forgotten."""
    found = way(cutout(), UPLOADED - after)
    assert found is (Route.RETAINED if after > MAX_CLOCK_SKEW else Route.EPHEMERAL)


@given(age=st.timedeltas(timedelta(hours=-1), LIMIT))
def test_without_a_grant_nothing_is_kept(age: timedelta) -> None:
    """The default."""
    assert way(cutout(), None, age=age) is Route.EPHEMERAL


@given(granted=st.none() | SPAN, age=SPAN)
def test_a_failed_result_is_never_kept_and_never_fails_again(
    granted: timedelta | None, age: timedelta
) -> None:
    """No photo is kept without its cut-out; what is too old keeps the reason that it has."""
    granted_at = None if granted is None else UPLOADED + granted
    assert way(failure(), granted_at, age=age) is Route.EPHEMERAL


@given(granted=st.none() | SPAN, beyond=st.timedeltas(TICK, timedelta(days=2)))
def test_too_old_is_expired_whatever_the_consent(
    granted: timedelta | None, beyond: timedelta
) -> None:
    """The 24 hours win, also over an opt-in."""
    granted_at = None if granted is None else UPLOADED + granted
    assert way(cutout(), granted_at, age=LIMIT + beyond) is Route.EXPIRED
    assert way(cutout(), granted_at, age=LIMIT) is not Route.EXPIRED


def test_nobody_opts_in_for_uploads_without_an_account() -> None:
    """They share a name that nobody has, and so that nobody can decide for."""
    granted_at = UPLOADED - timedelta(hours=1)
    assert way(cutout(), granted_at) is Route.RETAINED
    assert way(cutout(INVALID_ACCOUNT), granted_at) is Route.EPHEMERAL


@pytest.mark.parametrize(
    ("upload_id", "account", "same"),
    [(ID, ACCOUNT, True), (OTHER_ID, ACCOUNT, False), (ID, OTHER, False), (OTHER_ID, OTHER, False)],
)
def test_an_original_is_equal_in_id_and_account(
    upload_id: UploadId, account: AccountId, same: bool
) -> None:
    """One of both is not enough: ids can be chosen, and an account has many uploads."""
    upload = Upload(
        id=upload_id, time=UPLOADED, account=account, content_type="image/png", data=b"photo"
    )
    assert is_original(upload, cutout()) is same
