"""Certificates: who may open connections, who may answer, and where private keys lie."""

import ssl
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority, Clock
from erasestream.schemas.errors import Code, Refused
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.tls import Identity

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def at(moment: datetime) -> Clock:
    """A clock that stands."""
    return lambda: moment


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str:
    """Let both talk in memory until they are content; the client's subject as the server saw it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(to_client, to_server, server_hostname=host)
    answers = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [asks, answers]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    peer = answers.getpeercert()
    assert peer is not None
    return str(peer["subject"])


def server_context(folder: Path, name: str) -> ssl.SSLContext:
    """A server that asks for client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(folder: Path, role: str) -> ssl.SSLContext:
    """A client as the project makes them."""
    return Identity.load(folder, Role(role)).ssl_context()


def certificate(path: Path) -> x509.Certificate:
    """The first certificate of a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_chain_and_role(identities: Path) -> None:
    """Client and broker accept each other, and the broker learns the role's name only."""
    context = client_context(identities, "shop.producer")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    subject = handshake(context, server_context(identities, "broker"), "localhost")
    assert subject == str(((("commonName", "shop.producer"),),))


def test_ip_address(identities: Path) -> None:
    """The broker is accepted under its address, too."""
    client = client_context(identities, "admin")
    assert handshake(client, server_context(identities, "broker"), "127.0.0.1")


def test_wrong_host(identities: Path) -> None:
    """A server that answers under another name is refused."""
    client = client_context(identities, "admin")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(client, server_context(identities, "broker"), "elsewhere.example")


def test_other_authority(identities: Path, tmp_path: Path) -> None:
    """Client and server of different authorities refuse each other."""
    other = CertificateAuthority.create(tmp_path / "ca", now=lambda: datetime.now(UTC))
    other.issue_role("admin", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(
            client_context(tmp_path, "admin"), server_context(identities, "broker"), "localhost"
        )
    stranger = client_context(tmp_path, "admin")
    stranger.load_verify_locations(identities / "ca.crt")
    with pytest.raises(ssl.SSLError):
        handshake(stranger, server_context(identities, "broker"), "localhost")


def test_a_client_can_not_serve(identities: Path) -> None:
    """A role that takes a server's place is refused, whatever host it says it is."""
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(
            client_context(identities, "admin"),
            server_context(identities, "shop.producer"),
            "localhost",
        )


def test_a_server_can_not_be_a_client(authority: CertificateAuthority, tmp_path: Path) -> None:
    """A server that is no broker opens no connections; a broker does, to its peers."""
    authority.issue_server("bucket", tmp_path)
    authority.issue_broker("broker", tmp_path)
    server = server_context(tmp_path, "broker")
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        handshake(client_context(tmp_path, "bucket"), server, "localhost")
    assert handshake(client_context(tmp_path, "broker"), server, "localhost")


def test_a_role_can_not_sign(identities: Path) -> None:
    """Only the authority signs: a role's certificate says so in both places."""
    extensions = certificate(identities / "admin.crt").extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_private_files(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Keys are for their owner only, and the authority's never lies among identities."""
    authority.issue_broker("broker", tmp_path)
    authority.issue_role("admin", tmp_path)
    private = {path.name for path in tmp_path.iterdir() if b"PRIVATE KEY" in path.read_bytes()}
    assert private == {"broker.key", "broker.pem", "admin.key"}
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in private} == {0o600}
    assert {path.name for path in tmp_path.iterdir()} - private == {
        "ca.crt",
        "broker.crt",
        "admin.crt",
    }


def test_authority_files(tmp_path: Path) -> None:
    """An authority is private, opens again as the same, and is never replaced."""
    folder = tmp_path / "authority"
    made = CertificateAuthority.create(folder, now=at(NOON))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    loaded = CertificateAuthority.load(folder, now=at(NOON))
    assert loaded.certificate == made.certificate
    with pytest.raises(Refused, match="already"):
        CertificateAuthority.create(folder, now=at(NOON))


def test_missing_authority(tmp_path: Path) -> None:
    """No authority: the error names the file."""
    with pytest.raises(Refused, match=r"ca\.crt") as refused:
        CertificateAuthority.load(tmp_path, now=at(NOON))
    assert refused.value.code is Code.MISSING_CERTIFICATE


def test_unreadable_authority(tmp_path: Path) -> None:
    """A damaged authority is refused, and nothing of its key is said."""
    CertificateAuthority.create(tmp_path, now=at(NOON))
    (tmp_path / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\nsecret\n")
    with pytest.raises(Refused) as refused:
        CertificateAuthority.load(tmp_path, now=at(NOON))
    assert "secret" not in str(refused.value)


def test_validity(tmp_path: Path) -> None:
    """Valid from a little before now for the days asked for, never beyond the authority."""
    CertificateAuthority.create(tmp_path, now=at(NOON), days=2)
    late = NOON + timedelta(days=19)
    for today, end in ((NOON, NOON + timedelta(days=2)), (late, NOON + timedelta(days=20))):
        authority = replace(
            CertificateAuthority.load(tmp_path, now=at(NOON), days=2), now=at(today)
        )
        authority.issue_role("a", tmp_path)
        made = certificate(tmp_path / "a.crt")
        assert timedelta(0) < today - made.not_valid_before_utc < timedelta(hours=1)
        assert made.not_valid_after_utc == end


def test_expired_authority(tmp_path: Path) -> None:
    """An authority that has expired issues nothing."""
    CertificateAuthority.create(tmp_path, now=at(NOON), days=1)
    expired = CertificateAuthority.load(tmp_path, now=at(NOON + timedelta(days=11)))
    with pytest.raises(Refused, match="expired"):
        expired.issue_role("admin", tmp_path)


def test_serials_differ(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Issuing again replaces the files with a certificate of its own."""
    serials = set()
    for _ in range(3):
        authority.issue_role("admin", tmp_path)
        serials.add(certificate(tmp_path / "admin.crt").serial_number)
    assert len(serials) == 3


@pytest.mark.parametrize("name", ["", "ca", "../admin", "Admin", "a/b", "a..b", "x" * 65, "a\nb"])
def test_bad_names(authority: CertificateAuthority, tmp_path: Path, name: str) -> None:
    """A name that could be another file, or another subject, gets no certificate."""
    with pytest.raises(Refused, match="name"):
        authority.issue_role(name, tmp_path)
    assert not list(tmp_path.iterdir())
