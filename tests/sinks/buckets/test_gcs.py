"""The real client against the local bucket: trust, identity, rights, and translated errors."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.schemas.errors import (
    AlreadyExists,
    Code,
    NotFound,
    Refused,
    Unavailable,
)
from erasestream.schemas.sealing.envelope import MAX_SEALED_BYTES
from erasestream.sinks.buckets.access_policy import VAULT, Role, rules_of
from erasestream.sinks.buckets.gcs import PUT_DEADLINE_S, GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GcsSettings
from tests.sinks.conftest import code_of

OCTETS = "application/octet-stream"


def settings_of(stack: Any, **changes: Any) -> GcsSettings:
    """Return valid settings, with changes."""
    works = GcsSettings(
        bucket="open",
        max_object_bytes=MAX_SEALED_BYTES,
        endpoint=stack.server.endpoint,
        ca_file=stack.ca_file,
        token_file=stack.settings.tokens / "rotator.token",
    )
    return works._replace(**changes)


def test_an_unknown_token_is_refused_for_every_operation(stack: Any, tmp_path: Path) -> None:
    token = tmp_path / "sink.token"
    token.write_text("guess")
    token.chmod(0o600)
    store = GcsObjectStore(settings_of(stack, token_file=token))
    for action in (
        lambda: store.create("x", b"", OCTETS),
        lambda: store.read("x", 1),
        lambda: store.exists("x"),
        lambda: list(store.list("")),
        lambda: store.delete("x"),
        lambda: store.check(rules_of(VAULT, Role.READER)),
    ):
        assert code_of(action) is Code.NOT_AUTHENTICATED


def test_a_token_that_others_can_read_is_refused(stack: Any, tmp_path: Path) -> None:
    token = tmp_path / "sink.token"
    token.write_text("guess")
    token.chmod(0o644)
    with pytest.raises(Refused, match=r"sink\.token must be readable by this account only"):
        GcsObjectStore(settings_of(stack, token_file=token))


def test_a_renewed_token_file_is_read_again(stack: Any, tmp_path: Path) -> None:
    """After the server refuses the old token; then the whole request is sent again."""
    token = tmp_path / "rotator.token"
    token.write_text("old")
    token.chmod(0o600)
    store = GcsObjectStore(settings_of(stack, token_file=token))
    token.write_text((stack.settings.tokens / "rotator.token").read_text())
    name = f"renewed/{uuid.uuid4()}"
    store.create(name, bytes(600_000), OCTETS)
    assert store.read(name, 600_000) == bytes(600_000)


def test_a_missing_bucket_is_not_a_missing_object(stack: Any) -> None:
    """Every operation reports the missing bucket by name."""
    store = GcsObjectStore(settings_of(stack, bucket="nowhere"))
    for action in (
        lambda: store.create("x", b"", OCTETS),
        lambda: store.read("x", 1),
        lambda: store.exists("x"),
        lambda: list(store.list("")),
        lambda: store.delete("x"),
        lambda: store.check(rules_of(VAULT, Role.READER)),
    ):
        with pytest.raises(Refused, match="nowhere") as caught:
            action()
        assert caught.value.code is Code.MISSING_BUCKET


def test_a_certificate_of_another_authority_is_refused(stack: Any, tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "other", now=lambda: datetime.now(UTC))
    store = GcsObjectStore(settings_of(stack, ca_file=tmp_path / "other" / "ca.crt"))
    assert code_of(lambda: store.exists("x")) is Code.CERTIFICATE_REFUSED
    public = GcsObjectStore(settings_of(stack, ca_file=None))
    assert code_of(lambda: public.exists("x")) is Code.CERTIFICATE_REFUSED


def test_a_certificate_for_another_host_name_is_refused(
    stack: Any, authority: CertificateAuthority, tmp_path: Path
) -> None:
    authority.issue_server("bucket", tmp_path, hosts=["elsewhere.example"])
    settings = stack.settings.model_copy(
        update={
            "certificate": tmp_path / "bucket.crt",
            "key": tmp_path / "bucket.key",
            "port_file": tmp_path / "port",
            "data": tmp_path / "data",
        }
    )
    with BucketProcess.start(settings, tmp_path) as server:
        store = GcsObjectStore(settings_of(stack, endpoint=server.endpoint))
        assert code_of(lambda: store.exists("x")) is Code.CERTIFICATE_REFUSED


def test_an_endpoint_without_tls_is_refused(stack: Any) -> None:
    with pytest.raises(Refused, match="https"):
        GcsObjectStore(settings_of(stack, endpoint="http://127.0.0.1:1"))


def test_the_environment_changes_nothing(
    stack: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies, emulators, other roots and .netrc of the environment are ignored."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    for variable, value in {
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": str(netrc),
        "NETRC": str(netrc),
    }.items():
        monkeypatch.setenv(variable, value)
    assert not stack.store("open", Role.ROTATOR).exists("absent")


def test_an_unreachable_bucket_is_unavailable(launch: Callable[[], Any]) -> None:
    own = launch()
    store = own.store("open", Role.ROTATOR)
    store.create("x", b"x", OCTETS)
    own.server.kill()
    for action in (lambda: store.create("y", b"", OCTETS), lambda: store.read("x", 1)):
        with pytest.raises(Unavailable) as caught:
            action()
        assert caught.value.code is Code.BUCKET_UNAVAILABLE


def test_nothing_is_sent_after_the_deadline(stack: Any) -> None:
    """A put whose deadline passes stops half-way, and creates no object."""
    name = "deadline/x"
    readings = iter(range(1_000))

    def slow() -> float:
        """Advance by seven seconds at each reading."""
        return next(readings) * 7.0

    store = GcsObjectStore(settings_of(stack), clock=slow)
    with pytest.raises(Unavailable):
        store.create(name, bytes(3_000_000), OCTETS)
    assert next(readings) * 7.0 > PUT_DEADLINE_S
    assert not stack.store("open", Role.ROTATOR).exists(name)


def test_a_large_object_is_uploaded_in_one_request(stack: Any) -> None:
    """Above 8 MiB the client's own upload would open a session, which the local bucket refuses."""
    store, name = stack.store("open", Role.ROTATOR), f"large/{uuid.uuid4()}"
    store.create(name, bytes(9 << 20), OCTETS)
    assert store.read(name, 9 << 20) == bytes(9 << 20)


def test_the_client_starts_no_threads(stack: Any) -> None:
    """It would read the bucket's configuration in them."""
    store = stack.store("images", Role.SINK)
    before = set(threading.enumerate())
    store.create(f"quiet/{uuid.uuid4()}", b"x", OCTETS)
    assert set(threading.enumerate()) <= before


def test_errors_contain_no_object_names(stack: Any) -> None:
    """The client's own text is not passed on."""
    store = stack.store("images", Role.SINK)
    with pytest.raises(Refused) as caught:
        store.read("secret-name", 1)
    assert "secret-name" not in str(caught.value)
    for error in (NotFound(), AlreadyExists()):
        assert "secret" not in str(error)


def test_closing_a_store_closes_its_connections(stack: Any) -> None:
    def local_ports() -> set[int]:
        connections = psutil.Process().net_connections(kind="tcp")
        return {each.laddr.port for each in connections if each.status == "ESTABLISHED"}

    before = local_ports()
    with stack.store("open", Role.ROTATOR) as store:
        assert not store.exists("absent")
        opened = local_ports() - before
        assert opened
    assert not opened & local_ports()
