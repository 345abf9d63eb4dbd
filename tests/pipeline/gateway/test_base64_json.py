"""JSON with an image in Base64."""

import base64
import json
import tracemalloc

import pytest

from erasestream.pipeline.gateway.base64_json import IMAGE, base64_json


@pytest.mark.parametrize("size", [0, 1, 2, 3, 49_151, 49_152, 49_153, 200_000])
def test_it_is_what_json_and_base64_say(size: int) -> None:
    image = (bytes(range(256)) * 800)[:size]
    found = json.loads(bytes(base64_json({"a": "<é>", "data": {"image": IMAGE}, "w": 3}, image)))
    text = base64.b64encode(image).decode()
    assert found == {"a": "<é>", "data": {"image": text}, "w": 3}


def test_it_takes_memory_once() -> None:
    image = bytes(3_000_000)
    tracemalloc.start()
    try:
        text = base64_json({"image": IMAGE}, image)
        assert tracemalloc.get_traced_memory()[1] < len(text) + 200_000
    finally:
        tracemalloc.stop()
