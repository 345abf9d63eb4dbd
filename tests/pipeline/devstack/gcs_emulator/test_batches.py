"""Batches of the local bucket: refused as a whole unless they can be read as a whole."""

from typing import Any
from urllib.parse import quote

import pytest

from erasestream.sinks.buckets.access_policy import Role
from tests.pipeline.devstack.gcs_emulator.conftest import OBJECTS, exists, put

BATCH = "/batch/storage/v1"
KIND = {"content-type": "multipart/mixed; boundary=B"}


def part(name: str, method: str = "DELETE", head: str = "", headers: str = "") -> str:
    path = f"{OBJECTS}/{quote(name, safe='')}"
    return (
        f"--B\r\ncontent-type: application/http\r\n{head}\r\n{method} {path} HTTP/1.1\r\n"
        f"{headers}\r\n\r\n"
    )


def test_each_part_is_answered_in_order_and_with_its_id(served: Any, name: str) -> None:
    put(served, name)
    body = part(name, head="Content-ID: <it+1>\r\n") + part(f"{name}-2") + "--B--"
    answer = served.call("POST", BATCH, data=body, headers=KIND)
    assert answer.status_code == 200
    boundary = answer.headers["content-type"].partition("boundary=")[2]
    _, first, second, end = answer.text.split(f"--{boundary}")
    assert "Content-ID: <response-it+1>\r\n\r\nHTTP/1.1 204 No Content\r\n" in first
    assert "Content-ID" not in second
    assert "HTTP/1.1 404 Not Found\r\n" in second
    assert "No such object." in second
    assert end == "--\r\n"
    assert not exists(served, name)


def test_a_part_that_another_role_may_not_have_is_refused(served: Any, name: str) -> None:
    put(served, name)
    answer = served.call("POST", BATCH, Role.SINK, data=part(name) + "--B--", headers=KIND)
    assert "HTTP/1.1 403 Forbidden\r\n" in answer.text
    assert exists(served, name)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "--B--",
        "{whole}",
        "{whole}--B-",
        "{get}--B--",
        "{token}--B--",
        "{whole}--B\r\n\r\nDELETE /storage/v1/b/open/o/x HTTP/1.1\r\n\r\n--B--",
        "{whole}{upload}--B--",
        "{many}--B--",
    ],
    ids=["empty", "no parts", "cut", "cut end", "get", "token", "kind", "path", "many"],
)
def test_what_is_no_batch_of_deletions_deletes_nothing(served: Any, name: str, body: str) -> None:
    put(served, name)
    parts = {
        "whole": part(name),
        "get": part(name) + part(name, "GET"),
        "token": part(name) + part(name, headers="Authorization: Bearer x\r\n"),
        "upload": part(name).replace("/storage/v1", "/upload/storage/v1"),
        "many": part(name) * 101,
    }
    answer = served.call("POST", BATCH, data=body.format(**parts), headers=KIND)
    assert answer.status_code == 400
    assert exists(served, name)


@pytest.mark.parametrize("kind", ["", "multipart/related; boundary=B", "multipart/mixed"])
def test_a_batch_has_its_content_type(served: Any, name: str, kind: str) -> None:
    headers = {"content-type": kind}
    answer = served.call("POST", BATCH, data=part(name) + "--B--", headers=headers)
    assert answer.status_code == 400


def test_a_batch_too_large_is_refused(served: Any) -> None:
    answer = served.call("POST", BATCH, data=bytes(10_000_001), headers=KIND)
    assert answer.status_code == 400
