"""Bodies of requests, in bounded memory."""

import asyncio
import base64
import json
import tracemalloc
from contextlib import suppress
from urllib.parse import urlencode

import pytest
from starlette.requests import Request
from starlette.types import Message

from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.request_body import Body, BodyRules, read_body
from erasestream.pipeline.gateway.routes.image_upload import image_of

RULES = BodyRules(
    max_image_bytes=3_000_000, file_fields={"image_file"}, base64_fields={"image_base64"}
)


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
CHUNK = 65_536


def read(kind: str, raw: bytes, rules: BodyRules = RULES) -> Body:
    chunks = [raw[at : at + CHUNK] for at in range(0, len(raw), CHUNK)]

    async def receive() -> Message:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    headers = [(b"content-type", kind.encode())]
    return asyncio.run(read_body(Request({"type": "http", "headers": headers}, receive), rules))


def read_json(raw: bytes) -> Body:
    return read(JSON, raw)


def part(name: str, data: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--b--\r\n"


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


PICTURE = bytes(range(256)) * 4000
LINES = base64.encodebytes(PICTURE)
SPREAD = b" ".join(bytes([each]) for each in base64.b64encode(PICTURE[:400_000]))


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (JSON, b'{"image_base64": "data:image/png;base64,%s"}' % LINES.replace(b"\n", b"\\n")),
        (JSON, b'{"image_base64": "%s"}' % LINES.replace(b"\n", b"").replace(b"/", b"\\/")),
        (JSON, b'{"image_base64": "%s"}' % base64.b64encode(PICTURE).replace(b"+", b"\\u002B")),
        (JSON, b'{"image_base64": "%s"}' % SPREAD),
        (JSON, b'{"image_base64": "%s\\ud83d\\ude00"}' % base64.b64encode(PICTURE)),
        (JSON, b'{"image_base64": "%s\xf0\x9f\x98\x80"}' % base64.b64encode(PICTURE)),
        (JSON, b'{"other": "%s\xf0\x9f\x98\x80"}' % base64.b64encode(PICTURE)),
        (FORM, urlencode({"image_base64": LINES}).encode()),
        (FORM, b"image_base64=" + b"%41" * 200_000),
        (FORM, b"image_base64=" + b"%F0%9F%98%80" * 50_000),
        (FORM, b"image_base64=" + b"+" * 1_000_000),
        (MULTIPART, part("image_base64", LINES)),
        (MULTIPART, part("image_base64", SPREAD)),
        (MULTIPART, part("image_base64", b"A" * 3_000_000 + b"\xf0\x9f\x98\x80")),
        (MULTIPART, part("image_file", PICTURE)),
    ],
)
def test_an_image_takes_no_more_memory_than_was_admitted(kind: str, raw: bytes) -> None:
    """Whatever it is made of: its length, and twice the largest one's while it is decoded."""
    rules = BodyRules(
        max_image_bytes=len(raw) * 3 // 4,
        file_fields={"image_file"},
        base64_fields={"image_base64"},
    )
    given = len(raw)  # our copy of it in chunks
    tracemalloc.start()
    try:
        with suppress(Problem):
            image_of(read(kind, raw, rules), rules)
        assert tracemalloc.get_traced_memory()[1] < given + len(raw) + rules.decoding_bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [JSON, FORM, MULTIPART])
def test_base64_is_read_in_all_ways_of_writing_it(kind: str) -> None:
    image = bytes(range(256)) * 500
    lines = base64.encodebytes(image).decode()
    text = f"data:image/png;base64,{lines}"
    raw = {
        JSON: json.dumps({"Image_Base64": text})
        .replace("/", "\\/")
        .replace("+", "\\u002b")
        .encode(),
        FORM: urlencode({"crop": "yes", "image_base64": text}).encode() + b"&&format=",
        MULTIPART: part("image_base64", text.encode()),
    }[kind]
    body = read(kind, raw)
    assert image_of(body, RULES) == image
    if kind == FORM:
        assert (body.values["crop"], body.values["format"]) == ("yes", "")


def test_a_form_has_its_escapes_wherever_they_are() -> None:
    text = "a+%/é" * 1000
    assert read(FORM, urlencode({"crop": text}).encode()).values == {"crop": text}
    for shift in range(4):
        plain = "b" * shift + "+/=" * 60_000
        raw = urlencode({"image_base64": plain}).encode()
        assert read(FORM, raw).values == {"image_base64": plain}
