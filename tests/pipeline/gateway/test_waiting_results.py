"""Results that requests wait for."""

import asyncio

import pytest

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.waiting_results import WaitingResults, short_reference
from erasestream.schemas.events.base import utc
from erasestream.topics.index.table import Image, Place

KEY, OTHER = b"k" * 16, b"o" * 16
IMAGE = Image(
    uploaded_at=utc(0),
    place=Place(3, 17),
    code=None,
    is_retained=False,
    is_deleted=False,
    reference=short_reference("of-this-image"),
)


async def waited_for(reference: str | None) -> object:
    waiting = WaitingResults(1)
    with waiting.expecting(KEY, reference) as result:
        waiting.resolve(OTHER, IMAGE)
        assert not result.done()
        waiting.resolve(KEY, IMAGE)
        return await result


def test_a_result_goes_to_the_request_of_its_image() -> None:
    assert asyncio.run(waited_for("of-this-image")) == IMAGE


@pytest.mark.parametrize("reference", [None, "of-another-image"])
def test_no_request_gets_the_result_of_another_image_with_the_same_key(
    reference: str | None,
) -> None:
    with pytest.raises(Problem, match="idempotency_key_reused"):
        asyncio.run(waited_for(reference))


def test_no_more_uploads_are_waited_for_than_may_be() -> None:
    """However many requests were admitted while there was room."""

    async def wait_for_too_many() -> None:
        waiting = WaitingResults(1)
        waiting.check_room()
        with waiting.expecting(KEY, None):
            with (
                pytest.raises(Problem, match="overloaded"),
                waiting.expecting(OTHER, None),
            ):
                pass
            assert len(waiting) == 1
        waiting.check_room()

    asyncio.run(wait_for_too_many())
