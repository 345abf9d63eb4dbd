"""Results that requests wait for."""

import asyncio

import pytest

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.waiting_results import WaitingResults
from erasestream.schemas.events.images import Cutout
from erasestream.schemas.ids import UploadId
from tests.schemas.samples import SAMPLES

(RESULT,) = (each for each in SAMPLES[:4] if isinstance(each, Cutout))


async def waited_for(reference: str | None) -> object:
    waiting = WaitingResults(1)
    with waiting.expecting(RESULT.account, RESULT.id, reference) as result:
        waiting.resolve(RESULT.model_copy(update={"reference": "of-this-image"}))
        return await result


def test_a_result_goes_to_the_request_of_its_image() -> None:
    result = asyncio.run(waited_for("of-this-image"))
    assert isinstance(result, Cutout)
    assert result.data == RESULT.data


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
        with waiting.expecting(RESULT.account, RESULT.id, None):
            with (
                pytest.raises(Problem, match="overloaded"),
                waiting.expecting(RESULT.account, UploadId("another"), None),
            ):
                pass
            assert len(waiting) == 1
        waiting.check_room()

    asyncio.run(wait_for_too_many())
