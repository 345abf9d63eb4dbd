"""The wishes of an upload that are in its headers."""

import pytest
from starlette.requests import Request

from erasestream.pipeline.gateway.routes.image_upload import is_never_retained


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        (["0"], False),
        (["No "], False),
        (["1"], True),
        (["perhaps"], True),
        (["0", "1"], True),
        (["", "true", "false"], True),
        (["0, 1"], True),
    ],
)
def test_any_wish_never_to_be_retained_counts(values: list[str], expected: bool) -> None:
    """The header may come several times: a proxy adds one of its own, say."""
    headers = [(b"x-never-retain", value.encode()) for value in values]
    assert is_never_retained(Request({"type": "http", "headers": headers})) is expected
