"""The retention rule: in doubt a result is ephemeral."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.stages.routing.routing_rule import (
    Route,
    choose_route,
    is_original,
    is_retainable,
)
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import Cutout, Failure, Upload
from erasestream.schemas.ids import INVALID_ACCOUNT, AccountId, UploadId
from erasestream.schemas.options import CutoutOptions, OutputFormat
from tests.schemas.samples import headers_of

UPLOADED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = UploadId("018f3c4e-0000-7000-8000-000000000001")
OTHER_ID = UploadId("018f3c4e-0000-7000-8000-000000000002")
ACCOUNT, OTHER = AccountId("acct"), AccountId("acct-2")
LIMIT = timedelta(hours=4)
TICK = timedelta(milliseconds=1)
SPAN = st.timedeltas(timedelta(days=-2), timedelta(days=2))


def cutout(account: AccountId = ACCOUNT) -> Cutout:
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
    return Failure(
        id=ID,
        time=UPLOADED,
        account=ACCOUNT,
        position=Position(topic_id="A" * 22, partition=0, offset=7),
        uploaded_at=UPLOADED,
        code="corrupt",
        sentence="Damaged.",
    )


def route_at(
    result: Cutout | Failure, granted_at: datetime | None, *, age: timedelta = timedelta(0)
) -> Route:
    now = UPLOADED + age
    return choose_route(headers_of(result), granted_at=granted_at, now=now, backlog_limit=LIMIT)


@given(after=SPAN | st.sampled_from([MAX_CLOCK_SKEW, MAX_CLOCK_SKEW + TICK, timedelta(0)]))
def test_retained_only_if_uploaded_surely_after_the_grant(after: timedelta) -> None:
    """By more than the clocks of two brokers may differ; at exactly that it is ephemeral."""
    found = route_at(cutout(), UPLOADED - after)
    assert found is (Route.RETAINED if after > MAX_CLOCK_SKEW else Route.EPHEMERAL)


@given(after=SPAN, age=SPAN)
def test_a_wish_never_to_be_retained_only_narrows(after: timedelta, age: timedelta) -> None:
    """Whatever the consent; a result that is too old expires in any case."""
    result = cutout().model_copy(update={"never_retain": True})
    found = route_at(result, UPLOADED - after, age=age)
    assert found is (Route.EXPIRED if age > LIMIT else Route.EPHEMERAL)


@pytest.mark.parametrize(
    ("wish", "output", "retainable"),
    [
        (None, OutputFormat.PNG, True),
        (False, OutputFormat.AUTO, True),
        (True, OutputFormat.PNG, False),
        (None, OutputFormat.ZIP, False),
        (False, OutputFormat.ZIP, False),
    ],
)
def test_an_upload_that_was_read_again_is_asked_as_well(
    wish: bool | None, output: OutputFormat, retainable: bool
) -> None:
    upload = Upload(
        id=ID,
        account=ACCOUNT,
        content_type="image/png",
        options=CutoutOptions(format=output),
        never_retain=wish,
        data=b"photo",
    )
    assert is_retainable(upload) is retainable


@given(age=st.timedeltas(timedelta(hours=-1), LIMIT))
def test_without_a_grant_nothing_is_retained(age: timedelta) -> None:
    assert route_at(cutout(), None, age=age) is Route.EPHEMERAL


@given(granted=st.none() | SPAN, age=SPAN)
def test_a_failed_result_is_never_retained_nor_expired(
    granted: timedelta | None, age: timedelta
) -> None:
    """No photo is retained without its cut-out; a failure keeps its code, however old."""
    granted_at = None if granted is None else UPLOADED + granted
    assert route_at(failure(), granted_at, age=age) is Route.EPHEMERAL


@given(granted=st.none() | SPAN, beyond=st.timedeltas(TICK, timedelta(days=2)))
def test_too_old_is_expired_whatever_the_consent(
    granted: timedelta | None, beyond: timedelta
) -> None:
    """The 24 hours also win over an opt-in."""
    granted_at = None if granted is None else UPLOADED + granted
    assert route_at(cutout(), granted_at, age=LIMIT + beyond) is Route.EXPIRED
    assert route_at(cutout(), granted_at, age=LIMIT) is not Route.EXPIRED


def test_uploads_without_an_account_are_never_retained() -> None:
    """They share an id that no account has, so a grant for it is no owner's."""
    granted_at = UPLOADED - timedelta(hours=1)
    assert route_at(cutout(), granted_at) is Route.RETAINED
    assert route_at(cutout(INVALID_ACCOUNT), granted_at) is Route.EPHEMERAL


@pytest.mark.parametrize(
    ("upload_id", "account", "same"),
    [(ID, ACCOUNT, True), (OTHER_ID, ACCOUNT, False), (ID, OTHER, False), (OTHER_ID, OTHER, False)],
)
def test_an_original_has_the_cutouts_id_and_account(
    upload_id: UploadId, account: AccountId, same: bool
) -> None:
    """One of both is not enough: senders choose ids, and an account has many uploads."""
    upload = Upload(
        id=upload_id, time=UPLOADED, account=account, content_type="image/png", data=b"photo"
    )
    assert is_original(upload, cutout()) is same
