"""The local bucket server, spoken to as a careless or hostile client would."""

import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google_crc32c
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings, issue_token
from erasestream.schemas.errors import Refused
from erasestream.sinks.buckets.access_policy import Role

UPLOAD = "/upload/storage/v1/b/open/o"
OBJECTS = "/storage/v1/b/open/o"


def multipart(name: str, data: bytes, **metadata: str) -> dict[str, Any]:
    """Body and headers of a multipart upload, as the client writes them."""
    document = json.dumps({"name": name, **metadata}).encode()
    body = (
        b"--==B==\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n"
        + document
        + b"\r\n--==B==\r\ncontent-type: text/plain\r\n\r\n"
        + data
        + b"\r\n--==B==--"
    )
    headers = {"content-type": 'multipart/related; boundary="==B=="'}
    return {"data": body, "headers": headers}


def put(served: Any, name: str, data: bytes = b"x", query: str = "", **options: Any) -> Any:
    """Upload an object in one request."""
    role = options.pop("role", Role.ROTATOR)
    bucket = options.pop("bucket", "open")
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{query}"
    return served.call("POST", path, role, **multipart(name, data, **options))


def exists(served: Any, name: str) -> bool:
    """Whether the object is there."""
    return bool(served.call("GET", f"{OBJECTS}/{quote(name, safe='')}").status_code == 200)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"test/{uuid.uuid4()}"


@pytest.mark.parametrize("path", ["/", OBJECTS, f"{OBJECTS}/x?alt=media", "/storage/v1/b/open"])
@pytest.mark.parametrize("authorization", ["", "Bearer guess", "Basic x", "Bearer"])
def test_nobody_is_anonymous(served: Any, path: str, authorization: str) -> None:
    """Without a known token every path answers 401, also those that do not exist."""
    headers = {"Authorization": authorization} if authorization else {}
    assert served.call("GET", path, None, headers=headers).status_code == 401


def test_an_anonymous_upload_leaves_nothing(served: Any, name: str) -> None:
    """A large body without a token is answered, not kept."""
    path = f"{UPLOAD}?uploadType=multipart"
    answer = served.call("POST", path, None, **multipart(name, bytes(5_000_000)))
    assert answer.status_code == 401
    assert not exists(served, name)


def test_tls_below_1_3_and_plaintext_are_refused(served: Any) -> None:
    """The port speaks TLS 1.3 and nothing else."""
    context = served.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", served.port), 5) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", served.port), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in raw.recv(100)


def test_the_bucket_reports_how_closed_it_is(served: Any) -> None:
    """Public access prevention, uniform access, no versions, no soft delete: for the auditor."""
    path = "/storage/v1/b/images"
    report = served.call("GET", path, Role.AUDITOR).json()
    assert report["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert report["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert report["versioning"] == {"enabled": False}
    assert report["softDeletePolicy"]["retentionDurationSeconds"] == "0"
    members = {
        m
        for b in served.call("GET", f"{path}/iam", Role.AUDITOR).json()["bindings"]
        for m in b["members"]
    }
    assert members == {"role:sink", "role:reader", "role:eraser", "role:auditor"}
    for role in (Role.SINK, Role.READER, Role.ERASER, Role.ROTATOR):
        assert served.call("GET", path, role).status_code == 403
        assert served.call("GET", f"{path}/iam", role).status_code == 403


@pytest.mark.parametrize("path", ["/acl", "/defaultObjectAcl", "/o/x/acl", "/acl/allUsers"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_there_are_no_acls(served: Any, path: str, method: str) -> None:
    """Every ACL request is refused, whoever asks."""
    assert served.call(method, f"/storage/v1/b/open{path}").status_code == 400


def test_acls_can_not_come_with_an_upload(served: Any, name: str) -> None:
    """Neither as a parameter nor as metadata."""
    assert put(served, name, query="&predefinedAcl=publicRead").status_code == 400
    assert put(served, name, acl="publicRead").status_code == 400
    assert not exists(served, name)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/storage/v1/b/open"), ("PUT", "/storage/v1/b/open/iam"), ("POST", "/storage/v1/b"),
     ("DELETE", "/storage/v1/b/open"), ("POST", f"{OBJECTS}/x/rewriteTo/b/open/o/y"),
     ("PATCH", f"{OBJECTS}/x"), ("POST", f"{OBJECTS}/x/compose")],
)  # fmt: skip
def test_policy_and_history_can_not_be_changed(served: Any, method: str, path: str) -> None:
    """No request changes a policy or makes a copy, with whatever rights."""
    assert served.call(method, path, json={}).status_code in {404, 405}


def test_an_unknown_parameter_is_refused(served: Any, name: str) -> None:
    """A precondition that the server does not know is never passed over."""
    assert put(served, name, query="&ifMetagenerationMatch=0").status_code == 400
    assert not exists(served, name)


def test_generations_guard_every_change(served: Any, name: str) -> None:
    """0 means that there is none; another number means exactly that one."""
    assert put(served, name, query="&ifGenerationMatch=5").status_code == 412
    first = put(served, name, b"one", "&ifGenerationMatch=0").json()["generation"]
    assert put(served, name, b"two", "&ifGenerationMatch=0").status_code == 412
    second = put(served, name, b"two", f"&ifGenerationMatch={first}").json()["generation"]
    assert int(second) > int(first)
    path = f"{OBJECTS}/{quote(name, safe='')}"
    assert served.call("DELETE", f"{path}?ifGenerationMatch={first}").status_code == 412
    assert served.call("DELETE", f"{path}?ifGenerationMatch={second}").status_code == 204


def test_overwriting_needs_the_right_to_delete(served: Any, name: str) -> None:
    """A sink that forgets its precondition can still not overwrite."""
    assert put(served, name, b"one", bucket="images", role=Role.SINK).status_code == 200
    assert put(served, name, b"two", bucket="images", role=Role.SINK).status_code == 403
    path = f"/storage/v1/b/images/o/{quote(name, safe='')}?alt=media"
    assert served.call("GET", path, Role.READER).content == b"one"


def test_one_of_many_creators_wins_without_the_client(served: Any, name: str) -> None:
    """Of 24 uploads at once exactly one is 200, all others are 412."""

    def race(number: int) -> int:
        return int(put(served, name, bytes([number]) * 1000, "&ifGenerationMatch=0").status_code)

    with ThreadPoolExecutor(24) as pool:
        codes = sorted(pool.map(race, range(24)))
    assert codes == [200] + [412] * 23


def test_checksums_are_checked_and_returned(served: Any, name: str) -> None:
    """A declared CRC32C or MD5 must be that of the bytes; both come back."""
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


def test_a_part_of_an_object_can_be_read(served: Any, name: str) -> None:
    """A range is answered as one; a senseless one is refused."""
    put(served, name, b"0123456789")
    path = f"/download{OBJECTS}/{quote(name, safe='')}?alt=media"
    part = served.call("GET", path, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert served.call("GET", path, headers={"Range": "bytes=7-"}).content == b"789"
    assert served.call("GET", path, headers={"Range": "bytes=10-"}).status_code == 416


def files_of(served: Any) -> set[Path]:
    """Every file of the open bucket."""
    return {path for path in (served.settings.data / "open").rglob("*") if path.is_file()}


def wait_for_no_incoming(served: Any) -> None:
    """Until nothing is on its way in any more."""
    deadline = time.monotonic() + 10
    while any(path.parent.name == "incoming" for path in files_of(served)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("ending", ["closed", "reset", "body without its end"])
def test_a_truncated_upload_leaves_nothing(served: Any, name: str, ending: str) -> None:
    """A connection that ends in the middle, or a body that does, makes no object and no file."""
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
    wait_for_no_incoming(served)
    assert not exists(served, name)
    assert files_of(served) == before
    assert put(served, name, query="&ifGenerationMatch=0").status_code == 200


def test_an_upload_above_the_limit_is_refused(served: Any, name: str) -> None:
    """More bytes than any object of ours has are not kept."""
    assert put(served, name, bytes(100_000_001)).status_code == 400
    assert not exists(served, name)


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 1025])
def test_a_name_outside_the_rules_is_refused(served: Any, bad: str) -> None:
    """As Cloud Storage has it: 1 to 1024 bytes, no line breaks."""
    assert put(served, bad).status_code == 400


def test_names_stay_within_the_folder(served: Any, name: str) -> None:
    """However a name climbs, its file lies in the bucket's own folder."""
    outside = served.settings.data.parent
    before = {p for p in outside.rglob("*") if served.settings.data not in p.parents}
    for odd in ("../../../../escape", "..", "/etc/x", f"{name}/../../x", "%2e%2e%2fx", "\\..\\x"):
        assert put(served, odd).status_code == 200
        assert exists(served, odd)
    assert {p for p in outside.rglob("*") if served.settings.data not in p.parents} == before


def client_of(served: Any, role: Role) -> storage.Client:
    """Google's own client as a role, without our adapter."""
    client = storage.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": served.server.endpoint},
        extra_headers={"Authorization": f"Bearer {served.token(role)}"},
    )
    client._http.verify, client._http.trust_env = str(served.ca_file), False
    client._bucket_metadata_cache = None
    return client


@pytest.mark.parametrize("size", [0, 1, 262_144, 1_000_000])
def test_the_client_uploads_in_sessions_too(served: Any, name: str, size: int) -> None:
    """A resumable upload of several chunks is one object, with the precondition of its start."""
    blob = client_of(served, Role.ROTATOR).bucket("open").blob(name, chunk_size=262_144)
    data = os.urandom(size)
    for expected in (200, 412):
        url = blob.create_resumable_upload_session(size=size, if_generation_match=0)
        codes = []
        for start in range(0, max(size, 1), 262_144):
            chunk = data[start : start + 262_144]
            span = f"{start}-{start + len(chunk) - 1}" if chunk else "*"
            answer = served.call(
                "PUT",
                url.removeprefix(served.server.endpoint),
                data=chunk,
                headers={"content-range": f"bytes {span}/{size}"},
                allow_redirects=False,
            )
            codes.append(answer.status_code)
        assert codes[-1] == expected
        assert set(codes[:-1]) <= {308}
    media = served.call("GET", f"{OBJECTS}/{quote(name, safe='')}?alt=media").content
    assert hashlib.sha256(media).digest() == hashlib.sha256(data).digest()


def test_the_client_reads_in_chunks_too(served: Any, name: str) -> None:
    """Ranges that together are the object, the last of them shorter."""
    data = os.urandom(300_000)
    put(served, name, data)
    blob = client_of(served, Role.ROTATOR).bucket("open").blob(name, chunk_size=262_144)
    assert hashlib.sha256(blob.download_as_bytes()).digest() == hashlib.sha256(data).digest()


def test_an_unfinished_session_shows_nothing(served: Any, name: str) -> None:
    """What came can be asked for; the object is not there, and after a cancel nothing is."""
    client = client_of(served, Role.ROTATOR)
    url = client.bucket("open").blob(name).create_resumable_upload_session(size=600_000)
    path = url.removeprefix(served.server.endpoint)
    ask = {"content-range": "bytes */600000"}
    put_part = {"content-range": "bytes 0-262143/600000"}
    assert served.call("PUT", path, headers=ask, allow_redirects=False).status_code == 308
    served.call("PUT", path, data=bytes(262_144), headers=put_part, allow_redirects=False)
    asked = served.call("PUT", path, headers=ask, allow_redirects=False)
    assert (asked.status_code, asked.headers["range"]) == (308, "bytes=0-262143")
    assert served.call("PUT", path, data=b"x", headers=put_part).status_code == 400
    assert served.call("PUT", path, Role.SINK, headers=ask).status_code == 404
    assert not exists(served, name)
    assert served.call("DELETE", path).status_code == 499
    wait_for_no_incoming(served)
    assert not exists(served, name)


def test_listing_with_a_delimiter_shows_folders(served: Any, name: str) -> None:
    """As the client sees it: names of this level, prefixes of the next, over several pages."""
    for leaf in ("a", "b/1", "b/2", "c/1", "d"):
        assert put(served, f"{name}/{leaf}").status_code == 200
    client = client_of(served, Role.ROTATOR)
    found = client.list_blobs("open", prefix=f"{name}/", delimiter="/", page_size=2)
    assert [blob.name for blob in found] == [f"{name}/a", f"{name}/d"]
    assert found.prefixes == {f"{name}/b/", f"{name}/c/"}


def test_token_files_are_private(served: Any, tmp_path: Path) -> None:
    """Tokens are random, readable by their owner only, and a server refuses others."""
    files = list(served.settings.tokens.glob("*.token"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len({path.read_text() for path in files}) == len(files) == len(Role)
    issue_token(tmp_path / "tokens", Role.SINK).chmod(0o644)
    settings = served.settings.model_copy(
        update={
            "tokens": tmp_path / "tokens",
            "port_file": tmp_path / "port",
            "data": tmp_path / "data",
        }
    )
    with pytest.raises(Refused, match="0600"):
        BucketProcess.start(settings, tmp_path)


def test_sigterm_ends_it_with_status_0(served: Any, tmp_path: Path) -> None:
    """The module runs by itself, says when it is ready, and ends cleanly."""
    settings = served.settings.model_copy(
        update={"port_file": tmp_path / "port", "data": tmp_path / "data"}
    )
    config = tmp_path / "bucket.json"
    config.write_text(settings.model_dump_json())
    assert BucketSettings.model_validate_json(config.read_text()) == settings
    command = [
        sys.executable,
        "-m",
        "erasestream.pipeline.devstack.gcs_emulator.server",
        "--config",
        config,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready == f"ready https://127.0.0.1:{(tmp_path / 'port').read_text()}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_missing_certificate_is_named(served: Any, tmp_path: Path) -> None:
    """A server that can not start says why."""
    settings = served.settings.model_copy(
        update={"key": tmp_path / "none.key", "port_file": tmp_path / "port"}
    )
    with pytest.raises(Refused, match="missing_certificate"):
        BucketProcess.start(settings, tmp_path)
