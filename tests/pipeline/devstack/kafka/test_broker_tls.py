"""TLS of the real broker: which clients it accepts, and that there is no plaintext."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.java_launcher import IS_NATIVE
from erasestream.pipeline.devstack.kafka.readiness import brokers_in_service, client_context

CORRELATION_ID = bytes.fromhex("0000000f")
API_VERSIONS = bytes.fromhex("0000000a00120000") + CORRELATION_ID + bytes.fromhex("ffff")
"""A request that a broker answers with its correlation id: ApiVersions, version 0."""


def exchange(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> bytes:
    """Shake hands, and return the response to a request: a refused certificate shows on reading.

    Raises `ConnectionError` if the connection is closed without a response.
    """
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(API_VERSIONS)
        if response := connection.recv(1000):
            return response
        raise ConnectionError("no response")


def test_a_role_certificate_is_accepted_under_tls_1_3_with_aead(
    broker: Broker, identities: Path
) -> None:
    context = client_context(identities, "shop.producer")
    assert exchange(broker.config.port, context)[4:8] == CORRELATION_ID
    assert brokers_in_service(broker.bootstrap, identities, "shop.producer") == {1}
    address = (broker.config.host, broker.config.port)
    with (
        socket.create_connection(address, 5) as plain,
        context.wrap_socket(plain, server_hostname=broker.config.host) as connection,
    ):
        assert connection.version() == "TLSv1.3"
        cipher = connection.cipher()
        assert cipher is not None
        assert cipher[0].endswith(("GCM_SHA256", "GCM_SHA384", "POLY1305_SHA256"))


def test_tls_is_computed_in_native_code_where_there_is_some(broker: Broker) -> None:
    """From the broker's own folder: nothing is in `/tmp`."""
    assert broker.process_id is not None
    maps = Path(f"/proc/{broker.process_id.pid}/maps").read_text().splitlines()
    loaded = [line for line in maps if "libamazonCorrettoCryptoProvider.so" in line]
    assert bool(loaded) is IS_NATIVE
    assert all(f" {broker.log.parent}/" in line for line in loaded)


def test_a_client_refuses_a_broker_under_another_host_name(
    broker: Broker, identities: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        exchange(broker.config.port, client_context(identities, "admin"), "elsewhere.example")


def test_a_client_without_a_certificate_is_refused_on_both_listeners(
    broker: Broker, identities: Path
) -> None:
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    for port in (broker.config.port, broker.config.controller.port):
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
            exchange(port, context)


def test_tls_1_2_is_refused_on_both_listeners(broker: Broker, identities: Path) -> None:
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    context.load_cert_chain(identities / "admin.crt", identities / "admin.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for port in (broker.config.port, broker.config.controller.port):
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            exchange(port, context)


def test_identities_of_another_authority_are_refused(
    broker: Broker, identities: Path, tmp_path: Path
) -> None:
    """The broker refuses the client, and the client refuses the broker."""
    CertificateAuthority.create(tmp_path / "ca", now=lambda: datetime.now(UTC)).issue_role(
        "admin", tmp_path
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(broker.config.port, client_context(tmp_path, "admin"))
    stranger = client_context(tmp_path, "admin")
    stranger.load_verify_locations(identities / "ca.crt")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        exchange(broker.config.port, stranger)


def test_plaintext_gets_no_response_on_either_listener(broker: Broker) -> None:
    for port in (broker.config.port, broker.config.controller.port):
        with socket.create_connection((broker.config.host, port), 5) as plain:
            plain.sendall(API_VERSIONS)
            try:
                answer = plain.recv(1000)
            except ConnectionResetError:
                answer = b""
        # At most a TLS alert (type 21), never the correlation id that a broker returns.
        assert answer[:1] in (b"", b"\x15")
        assert CORRELATION_ID not in answer
