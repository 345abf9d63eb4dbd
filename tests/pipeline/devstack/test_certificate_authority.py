"""Certificates: which may be used for clients, which for servers, and where private keys are."""

import ssl
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from erasestream.pipeline.devstack.certificate_authority import LOCAL_HOSTS, CertificateAuthority
from erasestream.pipeline.devstack.stack_files import BUCKET_HOST, KEYS_HOST, StackFiles
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.tls import Identity

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def at(moment: datetime) -> WallClock:
    return lambda: moment


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str:
    """Shake hands in memory; return the client's subject as the server sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname=host)
    answers = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client_side, answers]
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(folder: Path, role: str) -> ssl.SSLContext:
    return Identity.load(folder, Role(role)).ssl_context()


def certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_broker_sees_only_the_role_name_of_a_client(identities: Path) -> None:
    context = client_context(identities, "shop.producer")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    subject = handshake(context, server_context(identities, "broker"), "localhost")
    assert subject == str(((("commonName", "shop.producer"),),))


def test_the_broker_is_accepted_under_its_ip_address(identities: Path) -> None:
    client = client_context(identities, "admin")
    assert handshake(client, server_context(identities, "broker"), "127.0.0.1")


def test_a_server_under_another_host_name_is_refused(identities: Path) -> None:
    client = client_context(identities, "admin")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(client, server_context(identities, "broker"), "elsewhere.example")


def test_clients_and_servers_of_different_authorities_refuse_each_other(
    identities: Path, tmp_path: Path
) -> None:
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


def test_a_client_certificate_is_refused_for_a_server(identities: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(
            client_context(identities, "admin"),
            server_context(identities, "shop.producer"),
            "localhost",
        )


def test_a_server_certificate_is_refused_for_a_client_unless_it_is_a_brokers(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    authority.issue_server("bucket", tmp_path)
    authority.issue_broker("broker", tmp_path)
    server = server_context(tmp_path, "broker")
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        handshake(client_context(tmp_path, "bucket"), server, "localhost")
    assert handshake(client_context(tmp_path, "broker"), server, "localhost")


def test_servers_of_a_stack_do_not_pass_for_each_other(tmp_path: Path) -> None:
    """A client of one's address refuses the others' certificates."""
    files = StackFiles(tmp_path / "stack")
    files.create_identities([Lane("shop")])
    client = client_context(files.identities, "sink")
    hosts = {"broker": LOCAL_HOSTS, "bucket": (BUCKET_HOST,), "keys": (KEYS_HOST,)}
    for server, own in hosts.items():
        for host in chain(*hosts.values()):
            if host in own:
                assert handshake(client, server_context(files.identities, server), host)
                continue
            with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)mismatch|not valid for"):
                handshake(client, server_context(files.identities, server), host)


@pytest.mark.parametrize(
    "hosts",
    [
        {"broker_hosts": ("one.example",), "bucket_hosts": ("one.example",)},
        {"broker_hosts": ("one.example",), "key_hosts": ("two.example", "one.example")},
        {"bucket_hosts": ("one.example",), "key_hosts": ("one.example",)},
    ],
)
def test_a_shared_name_of_two_servers_is_refused(
    tmp_path: Path, hosts: dict[str, tuple[str, ...]]
) -> None:
    files = StackFiles(tmp_path / "stack")
    with pytest.raises(Refused, match=r"two of them have one\.example"):
        files.create_identities([Lane("shop")], **hosts)
    assert not files.directory.exists()


def test_a_role_certificate_cannot_sign(identities: Path) -> None:
    extensions = certificate(identities / "admin.crt").extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_private_files_are_readable_by_their_owner_only(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
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


def test_an_authority_is_private_loads_again_and_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    created = CertificateAuthority.create(folder, now=at(NOON))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    loaded = CertificateAuthority.load(folder, now=at(NOON))
    assert loaded.certificate == created.certificate
    with pytest.raises(Refused, match="already"):
        CertificateAuthority.create(folder, now=at(NOON))


def test_a_missing_authority_is_refused_naming_the_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"ca\.crt") as refused:
        CertificateAuthority.load(tmp_path, now=at(NOON))
    assert refused.value.code is Code.MISSING_CERTIFICATE


def test_the_error_for_a_damaged_authority_contains_nothing_of_its_key(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path, now=at(NOON))
    (tmp_path / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\nsecret\n")
    with pytest.raises(Refused) as refused:
        CertificateAuthority.load(tmp_path, now=at(NOON))
    assert "secret" not in str(refused.value)


def test_certificates_are_valid_for_the_given_days_but_not_beyond_the_authority(
    tmp_path: Path,
) -> None:
    CertificateAuthority.create(tmp_path, now=at(NOON), days=2)
    late = NOON + timedelta(days=19)
    for today, end in ((NOON, NOON + timedelta(days=2)), (late, NOON + timedelta(days=20))):
        authority = replace(
            CertificateAuthority.load(tmp_path, now=at(NOON), days=2), now=at(today)
        )
        authority.issue_role("a", tmp_path)
        created = certificate(tmp_path / "a.crt")
        assert timedelta(0) < today - created.not_valid_before_utc < timedelta(hours=1)
        assert created.not_valid_after_utc == end


def test_an_expired_authority_issues_nothing(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path, now=at(NOON), days=1)
    expired = CertificateAuthority.load(tmp_path, now=at(NOON + timedelta(days=11)))
    with pytest.raises(Refused, match="expired"):
        expired.issue_role("admin", tmp_path)


def test_each_certificate_has_a_serial_number_of_its_own(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    serials = set()
    for _ in range(3):
        authority.issue_role("admin", tmp_path)
        serials.add(certificate(tmp_path / "admin.crt").serial_number)
    assert len(serials) == 3


@pytest.mark.parametrize("name", ["", "ca", "../admin", "Admin", "a/b", "a..b", "x" * 65, "a\nb"])
def test_names_that_could_be_another_file_or_subject_get_no_certificate(
    authority: CertificateAuthority, tmp_path: Path, name: str
) -> None:
    with pytest.raises(Refused, match="name"):
        authority.issue_role(name, tmp_path)
    assert not list(tmp_path.iterdir())
