"""Marks of uploads with an Idempotency-Key, beside their requests."""

import asyncio

import pytest

from erasestream.pipeline.gateway.accepted_marks import AcceptedMarks, HasOptedIn, Mark
from erasestream.pipeline.gateway.problems import try_later
from erasestream.schemas.events.image_index import ImageState
from erasestream.schemas.ids import AccountId, UploadId

ACCOUNT, UPLOAD = AccountId("acct"), UploadId("an-upload")


async def mark_one(mark: Mark, has_opted_in: HasOptedIn, *, never_retain: bool) -> None:
    """Mark one upload, and wait until that is written or given up."""
    marks = AcceptedMarks(mark, has_opted_in)
    marks.begin(ACCOUNT, UPLOAD, never_retain=never_retain)
    await marks.close()


@pytest.mark.parametrize(
    ("opted_in", "never_retain", "may_be_retained"),
    [
        (True, False, True),
        (False, False, False),
        (True, True, False),
        (None, False, True),
        (None, True, False),
    ],
)
def test_a_mark_tells_whether_the_image_may_be_retained(
    opted_in: bool | None,
    never_retain: bool,
    may_be_retained: bool,
) -> None:
    """It may if that cannot be read, so that deleting the image erases what there may be."""
    written = []

    async def mark(*given: object) -> None:
        written.append(given)

    async def has_opted_in(account: AccountId) -> bool:
        assert account == ACCOUNT
        if opted_in is None:
            raise try_later()
        return opted_in

    asyncio.run(mark_one(mark, has_opted_in, never_retain=never_retain))
    assert written == [(ACCOUNT, UPLOAD, ImageState.ACCEPTED, may_be_retained)]


def test_a_mark_that_cannot_be_written_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def mark(*_given: object) -> None:
        raise try_later()

    async def has_opted_in(_account: AccountId) -> bool:
        return False

    asyncio.run(mark_one(mark, has_opted_in, never_retain=False))
    (record,) = caplog.records
    assert (record.message, vars(record)["code"]) == ("upload_not_marked", "unavailable")
