"""Who gets in to the real broker, and who is refused: nothing answers in plaintext."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.readiness import brokers_in_service, client_context


def ask(broker: Broker, context: ssl.SSLContext, host: str | None = None) -> frozenset[int]:
    """Ask the broker who serves, as this client."""
    if host is None:
        return brokers_in_service(broker.config.host, broker.config.port, context)
    with (
        socket.create_connection((broker.config.host, broker.config.port), 5) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        return frozenset()


def test_client_gets_in(broker: Broker, identities: Path) -> None:
    """A role's certificate opens the door, under TLS 1.3 with an AEAD suite."""
    context = client_context(identities, "shop.producer")
    assert ask(broker, context) == {1}
    address = (broker.config.host, broker.config.port)
    with (
        socket.create_connection(address, 5) as plain,
        context.wrap_socket(plain, server_hostname=broker.config.host) as connection,
    ):
        assert connection.version() == "TLSv1.3"
        cipher = connection.cipher()
        assert cipher is not None
        assert cipher[0].endswith(("GCM_SHA256", "GCM_SHA384", "POLY1305_SHA256"))


def test_wrong_host_refused(broker: Broker, identities: Path) -> None:
    """A client that looks for another host does not talk to this one."""
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        ask(broker, client_context(identities, "admin"), "elsewhere.example")


def test_without_certificate_refused(broker: Broker, identities: Path) -> None:
    """Without a certificate nobody is answered, on either listener."""
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    for port in (broker.config.port, broker.config.controller.port):
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
            brokers_in_service(broker.config.host, port, context)


def test_old_tls_refused(broker: Broker, identities: Path) -> None:
    """TLS 1.2 is refused, on either listener."""
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    context.load_cert_chain(identities / "admin.crt", identities / "admin.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for port in (broker.config.port, broker.config.controller.port):
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            brokers_in_service(broker.config.host, port, context)


def test_other_authority_refused(broker: Broker, identities: Path, tmp_path: Path) -> None:
    """A certificate of another authority opens nothing, and its holder trusts nothing here."""
    CertificateAuthority.create(tmp_path / "ca", now=lambda: datetime.now(UTC)).issue_role(
        "admin", tmp_path
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(broker, client_context(tmp_path, "admin"))
    stranger = client_context(tmp_path, "admin")
    stranger.load_verify_locations(identities / "ca.crt")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(broker, stranger)


def test_plaintext_gets_nothing(broker: Broker) -> None:
    """Who asks in plaintext gets no answer in Kafka's protocol, on either listener."""
    for port in (broker.config.port, broker.config.controller.port):
        with socket.create_connection((broker.config.host, port), 5) as plain:
            plain.sendall(bytes.fromhex("0000000a001200000000000fffff"))
            try:
                answer = plain.recv(1000)
            except ConnectionResetError:
                answer = b""
        # At most a TLS alert (type 21), never the correlation id that a broker repeats.
        assert answer[:1] in (b"", b"\x15")
        assert b"\x00\x00\x00\x0f" not in answer
