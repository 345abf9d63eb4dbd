"""Uploads, including those of careless or hostile clients."""

import base64
import hashlib
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google_crc32c
import pytest

from erasestream.sinks.buckets.access_policy import Role
from tests.flow.waiting import eventually
from tests.pipeline.devstack.gcs_emulator.conftest import OBJECTS, UPLOAD, exists, multipart, put


def test_an_anonymous_upload_leaves_nothing(served: Any, name: str) -> None:
    """A large body without a token is answered and not kept."""
    path = f"{UPLOAD}?uploadType=multipart"
    answer = served.call("POST", path, None, **multipart(name, bytes(5_000_000)))
    assert answer.status_code == 401
    assert not exists(served, name)


def test_an_upload_cannot_set_an_acl(served: Any, name: str) -> None:
    """Neither as a parameter nor as metadata."""
    assert put(served, name, query="&predefinedAcl=publicRead").status_code == 400
    assert put(served, name, acl="publicRead").status_code == 400
    assert not exists(served, name)


def test_an_unknown_parameter_is_refused(served: Any, name: str) -> None:
    """A precondition that the server does not know is never ignored."""
    assert put(served, name, query="&ifMetagenerationMatch=0").status_code == 400
    assert not exists(served, name)


def test_malformed_metadata_is_a_bad_request(served: Any, name: str) -> None:
    """Half a character in the name, a content type that is no header, JSON without an end."""
    assert put(served, f"{name}\ud800").status_code == 400
    assert put(served, name, contentType="text/plain\r\nset-cookie: a").status_code == 400
    upload = multipart(name, b"x")
    document = upload["data"].index(b"{")
    upload["data"] = upload["data"][:document] + b"[" * 50_000 + upload["data"][document:]
    assert served.call("POST", f"{UPLOAD}?uploadType=multipart", **upload).status_code == 400
    assert not exists(served, name)


def test_overwriting_needs_the_right_to_delete(served: Any, name: str) -> None:
    """A sink without its precondition cannot overwrite."""
    assert put(served, name, b"one", bucket="images", role=Role.SINK).status_code == 200
    assert put(served, name, b"two", bucket="images", role=Role.SINK).status_code == 403
    path = f"/storage/v1/b/images/o/{quote(name, safe='')}?alt=media"
    assert served.call("GET", path, Role.READER).content == b"one"


def test_checksums_are_checked_and_returned(served: Any, name: str) -> None:
    """A declared CRC32C or MD5 must match the bytes; both are returned."""
    data = b"some bytes"
    crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()  # noqa: S324
    assert put(served, name, data, crc32c="AAAAAA==").status_code == 400
    assert put(served, name, data, md5Hash="AAAAAAAAAAAAAAAAAAAAAA==").status_code == 400
    assert not exists(served, name)
    answer = put(served, name, data, crc32c=crc32c, md5Hash=md5).json()
    assert (answer["crc32c"], answer["md5Hash"], answer["size"]) == (crc32c, md5, "10")
    media = served.call("GET", f"{OBJECTS}/{quote(name, safe='')}?alt=media")
    assert media.headers["x-goog-hash"] == f"crc32c={crc32c},md5={md5}"
    assert media.content == data


def files_of(served: Any) -> set[Path]:
    return {path for path in (served.settings.data / "open").rglob("*") if path.is_file()}


def wait_for_no_pending_uploads(served: Any) -> None:
    eventually(
        "no upload in progress",
        lambda: not any(path.parent.name == "incoming" for path in files_of(served)),
        deadline_s=10,
    )


@pytest.mark.parametrize("ending", ["closed", "reset", "body without its end"])
def test_a_truncated_upload_leaves_nothing(served: Any, name: str, ending: str) -> None:
    """A connection or a body that ends early creates no object and leaves no file."""
    before = files_of(served)
    request = multipart(name, bytes(400_000))
    body = request["data"] if ending != "body without its end" else request["data"][:-3]
    head = (
        f"POST {UPLOAD}?uploadType=multipart&ifGenerationMatch=0 HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {served.token()}\r\ncontent-length: {len(body)}\r\n"
        f"content-type: {request['headers']['content-type']}\r\n\r\n"
    ).encode()
    context = served.context()
    with (
        socket.create_connection(("127.0.0.1", served.port), 10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
    ):
        if ending == "body without its end":
            connection.sendall(head + body)
            assert connection.recv(200).startswith(b"HTTP/1.1 400")
        else:
            connection.sendall(head + body[:300_000])
            if ending == "reset":
                raw_option = (1).to_bytes(4, sys.byteorder) + bytes(4)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, raw_option)
    wait_for_no_pending_uploads(served)
    assert not exists(served, name)
    assert files_of(served) == before
    assert put(served, name, query="&ifGenerationMatch=0").status_code == 200


def test_an_upload_above_the_limit_is_refused(served: Any, name: str) -> None:
    assert put(served, name, bytes(100_000_001)).status_code == 400
    assert not exists(served, name)


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 1025])
def test_a_name_outside_the_rules_is_refused(served: Any, bad: str) -> None:
    """The rules of Cloud Storage: 1 to 1024 bytes, no line breaks."""
    assert put(served, bad).status_code == 400


def test_no_name_leaves_the_buckets_folder(served: Any, name: str) -> None:
    outside = served.settings.data.parent
    before = {p for p in outside.rglob("*") if served.settings.data not in p.parents}
    for odd in ("../../../../escape", "..", "/etc/x", f"{name}/../../x", "%2e%2e%2fx", "\\..\\x"):
        assert put(served, odd).status_code == 200
        assert exists(served, odd)
    assert {p for p in outside.rglob("*") if served.settings.data not in p.parents} == before


def test_a_resumable_upload_is_refused(served: Any, name: str) -> None:
    before = files_of(served)
    answer = served.call("POST", f"{UPLOAD}?uploadType=resumable", json={"name": name})
    assert answer.status_code == 400
    assert "resumable uploads are not" in answer.json()["error"]["message"]
    assert not exists(served, name)
    assert files_of(served) == before
