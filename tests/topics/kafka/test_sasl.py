"""Secrets of a role in files, and the exchange by which they are proved."""

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.errors import MissingCertificate, NotAuthenticated
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.sasl import Authentication, Sasl
from erasestream.topics.kafka.sasl_exchange import authenticate
from erasestream.topics.kafka.tls import Identity

PASSWORD = "open, sesame=1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an authority, and return the folder with its certificate."""
    folder = tmp_path_factory.mktemp("sasl")
    CertificateAuthority.create(folder, now=lambda: datetime.now(UTC))
    return folder


@pytest.fixture
def folder(tmp_path: Path, authority: Path) -> Path:
    """Fill an identities folder with the administrator's secrets."""
    (tmp_path / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
    (tmp_path / f"{ADMIN}.password").write_text(f"{PASSWORD}\n")
    (tmp_path / f"{ADMIN}.token").write_text("a.b.c\n")
    return tmp_path


def sasl_of(folder: Path, mechanism: Authentication) -> Sasl:
    return Sasl(mechanism=mechanism, role=ADMIN, directory=folder, extensions={"pool": "p-1"})


def test_settings_are_sasl_inside_tls_with_the_user_and_password_of_the_files(folder: Path) -> None:
    load = Identity.load
    settings = load(folder, ADMIN, authentication=Authentication.PLAIN).client_settings()
    assert settings["security.protocol"] == "sasl_ssl"
    assert settings["enable.ssl.certificate.verification"] is True
    assert (settings["sasl.username"], settings["sasl.password"]) == ("admin", PASSWORD)
    (folder / f"{ADMIN}.user").write_text("key-4711")
    settings = load(folder, ADMIN, authentication=Authentication.SCRAM_SHA_512).client_settings()
    assert (settings["sasl.mechanism"], settings["sasl.username"]) == ("SCRAM-SHA-512", "key-4711")


def test_a_token_is_read_from_its_file_each_time(folder: Path) -> None:
    settings = sasl_of(folder, Authentication.OAUTHBEARER).client_settings()
    (folder / f"{ADMIN}.token").write_text("d.e.f")
    token, _next_look, principal, extensions = settings["oauth_cb"]("")  # type: ignore[operator]
    assert (token, principal, extensions) == ("d.e.f", "admin", {"pool": "p-1"})


@pytest.mark.parametrize("mechanism", [m for m in Authentication if m != "certificate"])
@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_missing_or_empty_secret_is_named(
    folder: Path, mechanism: Authentication, content: str | None
) -> None:
    kind = "token" if mechanism is Authentication.OAUTHBEARER else "password"
    path = folder / f"{ADMIN}.{kind}"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(MissingCertificate, match=str(path)):
        Identity.load(folder, ADMIN, authentication=mechanism)


def test_a_new_password_replaces_clients_and_a_new_token_does_not(folder: Path) -> None:
    """Clients keep a password; a token they read again by themselves."""

    def watcher(mechanism: Authentication) -> CertificateWatcher:
        identity = Identity.load(folder, ADMIN, authentication=mechanism)
        return CertificateWatcher(identity, look_every_s=0)

    password = watcher(Authentication.SCRAM_SHA_512)
    token = watcher(Authentication.OAUTHBEARER)
    (folder / f"{ADMIN}.password").write_text("another")
    (folder / f"{ADMIN}.token").write_text("another")
    assert (password.is_due(), token.is_due()) == (True, False)
    (folder / f"{ADMIN}.password").write_text("")  # being written
    assert not password.is_due()


def test_secrets_show_in_no_representation(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sasl = sasl_of(folder, Authentication.PLAIN)
    logging.getLogger("test").warning("%r %r", sasl, sasl.login())
    assert PASSWORD not in caplog.text


def scram_server(algorithm: str, password: str, *, iterations: int) -> Callable[[bytes], bytes]:
    """Return a server's side of SCRAM, as RFC 5802 has it."""
    salt, steps = b"0123456789abcdef", []

    def answer(message: bytes) -> bytes:
        steps.append(message.decode())
        if len(steps) == 1:
            nonce = steps[0].partition(",r=")[2]
            steps.append(f"r={nonce}XYZ,s={base64.b64encode(salt).decode()},i={iterations}")
            return steps[1].encode()
        final, _, proof = steps[2].partition(",p=")
        signed = ",".join((steps[0].removeprefix("n,,"), steps[1], final)).encode()
        salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        signature = hmac.digest(hashlib.new(algorithm, client_key).digest(), signed, algorithm)
        if base64.b64decode(proof) != bytes(
            a ^ b for a, b in zip(client_key, signature, strict=True)
        ):
            raise NotAuthenticated
        server_key = hmac.digest(salted, b"Server Key", algorithm)
        return b"v=" + base64.b64encode(hmac.digest(server_key, signed, algorithm))

    return answer


@pytest.mark.parametrize(
    ("mechanism", "algorithm"),
    [(Authentication.SCRAM_SHA_256, "sha256"), (Authentication.SCRAM_SHA_512, "sha512")],
)
def test_scram_proves_both_sides(folder: Path, mechanism: Authentication, algorithm: str) -> None:
    sasl = sasl_of(folder, mechanism)
    authenticate(sasl, scram_server(algorithm, PASSWORD, iterations=4096))
    with pytest.raises(NotAuthenticated):
        authenticate(sasl, scram_server(algorithm, "another", iterations=4096))

    honest = scram_server(algorithm, PASSWORD, iterations=4096)
    with pytest.raises(NotAuthenticated, match="does not know"):
        authenticate(sasl, lambda message: honest(message).replace(b"v=", b"v=x"))
    with pytest.raises(NotAuthenticated, match="challenge"):
        authenticate(sasl, scram_server(algorithm, PASSWORD, iterations=10_000_000))


def test_plain_and_tokens_are_sent_as_their_standards_have_it(folder: Path) -> None:
    sent: list[bytes] = []

    def answer(message: bytes) -> bytes:
        sent.append(message)
        return b""

    authenticate(sasl_of(folder, Authentication.PLAIN), answer)
    authenticate(sasl_of(folder, Authentication.OAUTHBEARER), answer)
    assert sent == [
        f"\0admin\0{PASSWORD}".encode(),
        b"n,,\x01auth=Bearer a.b.c\x01pool=p-1\x01\x01",
    ]
