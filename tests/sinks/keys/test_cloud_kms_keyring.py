"""The keyring in Cloud KMS: checksums, rights, durations, and states that are not destruction."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest

from erasestream.schemas.errors import (
    KeyringAccessDenied,
    NotAuthenticated,
    Refused,
    SealBroken,
    Unavailable,
)
from erasestream.sinks.keys.cloud_kms_client import KmsSettings
from erasestream.sinks.keys.cloud_kms_key import create_key, verify_key
from erasestream.sinks.keys.cloud_kms_keyring import CloudKmsKeyring
from erasestream.sinks.keys.keyring import VERSIONS_AGE_S, VersionState
from tests.kms.server import DAY, Aborted, LocalKms, State
from tests.leaks import no_leak
from tests.sinks.retention_harness import ManualClock

KEY = bytes(range(32))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keyring(kms: LocalKms, kms_key: str, clock: ManualClock) -> Iterator[CloudKmsKeyring]:
    with closing(CloudKmsKeyring(kms.settings(kms_key, "rotator"), clock=clock)) as opened:
        yield opened


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def wrap_and_unwrap(keyring: CloudKmsKeyring) -> None:
    version, raw = keyring.wrap(KEY, b"grant")
    assert keyring.unwrap(version, raw, b"grant") == KEY


def broken_answers() -> dict[str, tuple[str, Callable[[Any], None]]]:
    def change(name: str, value: Callable[[Any], Any]) -> Callable[[Any], None]:
        return lambda answer: setattr(answer, name, value(getattr(answer, name)))

    return {
        "another version": ("Encrypt", change("name", lambda name: f"{name}0")),
        "changed ciphertext": ("Encrypt", change("ciphertext", flip)),
        "no checksum of the ciphertext": ("Encrypt", change("ciphertext_crc32c", lambda _: None)),
        "unverified key": ("Encrypt", change("verified_plaintext_crc32c", lambda _: False)),
        "unverified context": (
            "Encrypt",
            change("verified_additional_authenticated_data_crc32c", lambda _: False),
        ),
        "changed key": ("Decrypt", change("plaintext", flip)),
        "no checksum of the key": ("Decrypt", change("plaintext_crc32c", lambda _: None)),
    }


@pytest.mark.parametrize("broken", broken_answers())
def test_an_answer_that_was_not_verified_is_discarded(
    kms: LocalKms, keyring: CloudKmsKeyring, broken: str
) -> None:
    """And the request can be repeated."""
    method, damage = broken_answers()[broken]
    kms.server.after = lambda called, answer: damage(answer) if called == method else None
    with pytest.raises(Unavailable, match="checksum"):
        wrap_and_unwrap(keyring)
    kms.server.after = lambda _called, _answer: None
    wrap_and_unwrap(keyring)


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("Encrypt", "plaintext"),
        ("Encrypt", "additional_authenticated_data"),
        ("Decrypt", "ciphertext"),
        ("Decrypt", "additional_authenticated_data"),
    ],
)
def test_a_request_that_was_changed_on_its_way_can_be_repeated(
    kms: LocalKms, keyring: CloudKmsKeyring, method: str, field: str
) -> None:
    """It is not taken for a broken key."""

    def change(called: str, request: Any) -> None:
        if called == method:
            setattr(request, field, flip(getattr(request, field)))

    kms.server.before = change
    with pytest.raises(Unavailable):
        wrap_and_unwrap(keyring)


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
def test_an_outage_is_unavailable_and_asked_once(
    kms: LocalKms, keyring: CloudKmsKeyring, status: grpc.StatusCode
) -> None:
    """The caller retries, and the library does not; its messages, which name keys, are not ours."""
    version, raw = keyring.wrap(KEY, b"grant")

    def fail(_method: str, _request: Any) -> None:
        raise Aborted(status, "of projects/example")

    kms.server.before = fail
    before = len(kms.server.calls)
    with pytest.raises(Unavailable) as raised:
        keyring.unwrap(version, raw, b"grant")
    assert len(kms.server.calls) == before + 1
    assert "projects" not in str(raised.value)


def test_each_role_has_its_own_rights(kms: LocalKms, kms_key: str) -> None:
    """The reader unwraps and never wraps; the eraser has no master key at all."""
    roles = ("sink", "reader", "eraser", "stranger")
    with ExitStack() as stack:
        sink, reader, eraser, stranger = (
            stack.enter_context(closing(CloudKmsKeyring(kms.settings(kms_key, role))))
            for role in roles
        )
        version, raw = sink.wrap(KEY, b"grant")
        assert reader.unwrap(version, raw, b"grant") == KEY
        for denied in (
            sink.rotate,
            partial(reader.wrap, KEY, b"grant"),
            partial(eraser.unwrap, version, raw, b"grant"),
        ):
            with pytest.raises(KeyringAccessDenied):
                denied()
        with pytest.raises(NotAuthenticated):
            stranger.versions()


def test_versions_are_asked_for_once_a_minute(
    kms: LocalKms, keyring: CloudKmsKeyring, clock: ManualClock
) -> None:
    """Cloud KMS answers 300 such requests a minute, of all processes together."""
    keyring.wrap(KEY, b"grant")
    asked = kms.server.calls.count("ListCryptoKeyVersions")
    clock.now += VERSIONS_AGE_S - 1
    keyring.wrap(KEY, b"grant")
    assert kms.server.calls.count("ListCryptoKeyVersions") == asked
    clock.now += 1
    keyring.wrap(KEY, b"grant")
    assert kms.server.calls.count("ListCryptoKeyVersions") == asked + 1


def test_all_versions_of_years_are_listed(
    kms: LocalKms, kms_key: str, keyring: CloudKmsKeyring
) -> None:
    """In their order, where names would be sorted otherwise, and more than one page of them."""
    for _ in range(1100):
        kms.server._add_version(kms_key)
    numbers = [int(each.name.rpartition("-")[2]) for each in keyring.history()]
    assert numbers == list(range(1, 1102))
    assert keyring.wrap(KEY, b"grant").version.endswith("-1101")


def test_versions_of_two_keys_have_different_names(kms: LocalKms, kms_key: str) -> None:
    """The destruction of one vouches for nothing that was wrapped under the other."""
    other = kms.server.create_key(f"{kms_key.rpartition('/')[2]}-other")
    with (
        closing(CloudKmsKeyring(kms.settings(kms_key, "sink"))) as first,
        closing(CloudKmsKeyring(kms.settings(other, "sink"))) as second,
    ):
        version, raw = first.wrap(KEY, b"grant")
        assert not {*first.versions()} & {*second.versions()}
        with pytest.raises(SealBroken):
            second.unwrap(version, raw, b"grant")


def test_a_version_that_is_disabled_meanwhile_wraps_no_more(
    kms: LocalKms, kms_key: str, keyring: CloudKmsKeyring
) -> None:
    """The next attempt uses the newest one that is enabled, whatever was known before."""
    keyring.rotate()
    newest, older = keyring.versions()
    kms.server.version(f"{kms_key}/cryptoKeyVersions/2").state = State.DISABLED
    with pytest.raises(Unavailable):
        keyring.wrap(KEY, b"grant")
    assert keyring.wrap(KEY, b"grant").version == older
    assert keyring.state(newest) is VersionState.DISABLED


def test_a_destruction_can_be_undone_until_it_is_seen(
    kms: LocalKms, kms_key: str, keyring: CloudKmsKeyring
) -> None:
    """Scheduled is not destroyed, a minute before its time either; nor is imported material."""
    keyring.rotate()
    old = keyring.versions()[1]
    keyring.destroy(old)
    kms.server.now += DAY - timedelta(minutes=1)
    assert keyring.state(old) is VersionState.SCHEDULED
    message = kms.server.version(f"{kms_key}/cryptoKeyVersions/1")
    message.state = State.DISABLED  # as after RestoreCryptoKeyVersion
    assert keyring.state(old) is VersionState.DISABLED
    keyring.destroy(old)
    message.reimport_eligible = True
    kms.server.now += DAY
    assert kms.server.version(message.name).state == State.DESTROYED
    assert keyring.state(old) is VersionState.SCHEDULED


def test_a_key_is_created_with_an_explicit_duration(kms: LocalKms, kms_key: str) -> None:
    settings = kms.settings(f"{kms_key}-made", "admin")
    create_key(settings, destroyed_within=DAY)
    message = kms.server.keys[settings.key].message
    assert message.destroy_scheduled_duration == DAY
    assert not message.rotation_period
    with pytest.raises(Refused, match="there is such a key"):
        create_key(settings, destroyed_within=DAY)
    verify_key(kms.settings(settings.key, "rotator"), destroyed_within=DAY)


def test_a_key_that_destroys_too_late_is_refused(kms: LocalKms, kms_key: str) -> None:
    """Cloud KMS waits for 30 days unless the key has another duration."""
    late = kms.server.create_key(f"{kms_key.rpartition('/')[2]}-late", timedelta(days=30))
    settings = kms.settings(late, "rotator")
    with pytest.raises(Refused, match="30 days"):
        verify_key(settings, destroyed_within=DAY)
    verify_key(settings, destroyed_within=timedelta(days=30))
    kms.server.keys[late].message.import_only = True
    with pytest.raises(Refused, match="made by Cloud KMS"):
        verify_key(settings, destroyed_within=timedelta(days=30))


@pytest.mark.parametrize(
    "wrong",
    [{"key": "grants"}, {"key": "projects/p"}, {"endpoint": "http://127.0.0.1:1"}],
)
def test_settings_that_cannot_work_are_refused(
    kms: LocalKms, kms_key: str, wrong: dict[str, str]
) -> None:
    settings = kms.settings(kms_key, "sink")._replace(**wrong)
    for use in (CloudKmsKeyring, partial(create_key, destroyed_within=DAY)):
        with pytest.raises(Refused):
            use(settings)


def test_a_server_without_our_certificate_is_not_asked(
    kms: LocalKms, kms_key: str, keyring: CloudKmsKeyring
) -> None:
    """The public authorities do not vouch for it: no token is sent."""
    settings: KmsSettings = kms.settings(kms_key, "sink")._replace(ca_file=None)
    before = len(kms.server.calls)
    with closing(CloudKmsKeyring(settings)) as stranger, pytest.raises(Unavailable):
        stranger.versions()
    assert len(kms.server.calls) == before


def test_no_key_is_logged_at_any_level(
    keyring: CloudKmsKeyring, caplog: pytest.LogCaptureFixture
) -> None:
    """The library would log requests and answers."""
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "google"):
        version, raw = keyring.wrap(KEY, b"grant")
        keyring.unwrap(version, raw, b"grant")
    assert not [record for record in caplog.records if record.name.startswith("google.cloud.kms")]


def test_a_closed_keyring_leaves_nothing_open(kms: LocalKms, kms_key: str) -> None:
    with no_leak(), closing(CloudKmsKeyring(kms.settings(kms_key, "sink"))) as opened:
        opened.wrap(KEY, b"grant")
