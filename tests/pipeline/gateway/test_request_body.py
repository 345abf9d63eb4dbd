"""Bodies of requests, in bounded memory."""

import asyncio
import base64
import json
import tracemalloc

import pytest
from starlette.requests import Request
from starlette.types import Message

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.request_body import Body, BodyRules, read_body

RULES = BodyRules(
    max_image_bytes=3_000_000, file_fields={"image_file"}, base64_fields={"image_base64"}
)


def read_json(raw: bytes) -> Body:
    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    headers = [(b"content-type", b"application/json")]
    return asyncio.run(read_body(Request({"type": "http", "headers": headers}, receive), RULES))


def test_json_has_an_image_and_options() -> None:
    text = base64.b64encode(bytes(3_000_000)).decode()
    fields = {"image_base64": f"data:image/png;base64,{text}", "crop": True}
    assert read_json(json.dumps(fields).encode()).values == fields


@pytest.mark.parametrize("value", ["[]", "{}", '"ab"', "1000", '{"a":[]}'])
def test_json_cannot_take_many_times_its_size(value: str) -> None:
    raw = f'{{"crop":[{",".join([value] * 400_000)}]}}'.encode()
    tracemalloc.start()
    try:
        with pytest.raises(Problem, match="malformed_body"):
            read_json(raw)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(raw)
    finally:
        tracemalloc.stop()
