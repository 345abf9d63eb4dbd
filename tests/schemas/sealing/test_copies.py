"""Sealing, opening and replacing recipients allocate their result, and no copy of a picture."""

import tracemalloc
from collections.abc import Callable

import pytest

from erasestream.schemas.events.images import Part
from erasestream.schemas.sealing.envelope import open_sealed, replace_recipients
from tests.schemas.sealing.test_envelope import BY_EPOCH, KEY, TO_GRANT, UPLOAD, sealed

PICTURE = bytes(4_000_000)
SEALED = sealed(PICTURE, random=lambda _: KEY)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sealed(PICTURE),
        lambda: open_sealed(SEALED, upload=UPLOAD, part=Part.ORIGINAL, opener=BY_EPOCH).plaintext,
        lambda: replace_recipients(
            SEALED, upload=UPLOAD, part=Part.ORIGINAL, data_key=KEY, recipients=[TO_GRANT]
        ),
    ],
    ids=["seal", "open", "replace"],
)
def test_no_copy_of_a_picture_is_made(call: Callable[[], bytes]) -> None:
    tracemalloc.start()
    try:
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result) <= peak < 1.3 * len(PICTURE)
