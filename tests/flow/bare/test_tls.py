"""Mutual TLS between broker and clients, with the settings of all our Kafka clients."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.errors import Code, ErasestreamError
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.client.upload_producer import SendingLimits, UploadProducer
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.waiting import eventually

PRODUCER = lane_role(SHOP, LaneRole.PRODUCER)
HOST = "127.0.0.1"
SHORT = SendingLimits(readiness_s=3.0)


def now() -> datetime:
    """Return the time that certificates are issued at."""
    return datetime.now(UTC)


@pytest.fixture
def settings(bare: PipelineHarness) -> Settings:
    """Return the settings of every Kafka client of ours."""
    return Connection(cluster=bare.stack.cluster, role=PRODUCER).settings(ClientErrorState())


def connection_errors(settings: Settings, *, timeout_s: float = 2.0) -> list[KafkaError]:
    """Return the errors that a client reports, or none if the broker answers it."""
    reported: list[KafkaError] = []
    client = AdminClient(settings | {"error_cb": reported.append})
    try:
        client.list_topics(timeout=timeout_s)
    except KafkaException:
        eventually("a reason", lambda: client.poll(0.1) or reported)
        return reported
    return []


def test_client_with_certificate_is_accepted(settings: Settings) -> None:
    assert connection_errors(settings, timeout_s=60.0) == []


def test_client_without_certificate_is_rejected(settings: Settings) -> None:
    anonymous = {
        name: value
        for name, value in settings.items()
        if name not in ("ssl.certificate.location", "ssl.key.location")
    }
    text = " ".join(error.str() for error in connection_errors(anonymous))
    assert "certificate" in text


def test_plaintext_client_is_rejected(settings: Settings) -> None:
    plain = {name: value for name, value in settings.items() if not name.startswith("ssl.")}
    del plain["enable.ssl.certificate.verification"]
    assert connection_errors(plain | {"security.protocol": "plaintext"})


@pytest.fixture
def foreign_cluster(bare: PipelineHarness, tmp_path: Path) -> Cluster:
    """Return a cluster whose producer certificate another authority issued; it trusts the CA."""
    authority = CertificateAuthority.create(tmp_path / "authority", now=now)
    authority.issue_role(PRODUCER, tmp_path / "identities")
    ca = (bare.stack.files.identities / "ca.crt").read_bytes()
    (tmp_path / "identities" / "ca.crt").write_bytes(ca)
    cluster = bare.stack.cluster
    return Cluster(bootstrap_servers=cluster.bootstrap_servers, identities=tmp_path / "identities")


def await_refusal(cluster: Cluster) -> None:
    """Wait: on a busy machine the deadline can pass before the client reports its handshake."""

    def code() -> Code:
        with pytest.raises(ErasestreamError) as caught:
            UploadProducer(cluster, SHOP, limits=SHORT, sealed=False)
        return caught.value.code

    eventually("the certificate is refused", lambda: code() is Code.CERTIFICATE_REFUSED)


def test_client_certificate_of_another_authority_is_refused(foreign_cluster: Cluster) -> None:
    await_refusal(foreign_cluster)


def test_broker_certificate_of_another_authority_is_refused(
    bare: PipelineHarness, tmp_path: Path
) -> None:
    CertificateAuthority.create(tmp_path / "authority", now=now).issue_role(PRODUCER, tmp_path)
    cluster = Cluster(bootstrap_servers=bare.stack.cluster.bootstrap_servers, identities=tmp_path)
    await_refusal(cluster)


Handshakes = Queue[str]
"""The TLS version of each completed handshake, or the reason why it failed."""


@contextmanager
def server(
    bare: PipelineHarness, folder: Path, host: str, version: ssl.TLSVersion
) -> Iterator[tuple[int, Handshakes]]:
    """Run a server with a valid certificate for this host that accepts one TLS version only."""
    authority = CertificateAuthority.load(bare.stack.files.directory / "authority", now=now)
    authority.issue_server("elsewhere", folder, hosts=(host,))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "elsewhere.crt", folder / "elsewhere.key")
    context.minimum_version = context.maximum_version = version
    handshakes: Handshakes = Queue()
    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, context, handshakes))
        thread.start()
        try:
            yield listening.getsockname()[1], handshakes
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def _serve(listening: socket.socket, context: ssl.SSLContext, handshakes: Handshakes) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        try:
            plain.settimeout(30)
            with context.wrap_socket(plain, server_side=True) as connection:
                # With TLS 1.3 the client's refusal comes after our side of the handshake.
                handshakes.put(str(connection.version()) if connection.recv(1) else "closed")
        except OSError as error:
            handshakes.put(getattr(error, "reason", None) or type(error).__name__)


@pytest.fixture
def handshake(
    bare: PipelineHarness, settings: Settings, tmp_path: Path
) -> Callable[[str, ssl.TLSVersion, Settings], str]:
    """Return a function that connects a client to such a server and returns the outcome."""

    def connect(host: str, version: ssl.TLSVersion, changed: Settings) -> str:
        with server(bare, tmp_path, host, version) as (port, handshakes):
            client = AdminClient(settings | {"bootstrap.servers": f"{HOST}:{port}"} | changed)
            with pytest.raises(KafkaException):  # the server does not speak Kafka's protocol
                client.list_topics(timeout=1)
            return handshakes.get(timeout=60)

    return connect


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def test_server_with_a_certificate_for_its_host_is_accepted(
    handshake: Callable[[str, ssl.TLSVersion, Settings], str],
) -> None:
    assert handshake(HOST, V13, {}) == "TLSv1.3"


def test_server_with_a_certificate_for_another_host_is_rejected(
    handshake: Callable[[str, ssl.TLSVersion, Settings], str],
) -> None:
    assert not handshake("elsewhere.example", V13, {}).startswith("TLS")


def test_server_without_tls_1_3_is_rejected(
    handshake: Callable[[str, ssl.TLSVersion, Settings], str],
) -> None:
    """The list of cipher suites enforces it: without the list, TLS 1.2 is accepted."""
    assert not handshake(HOST, V12, {}).startswith("TLSv")
    assert handshake(HOST, V12, {"ssl.cipher.suites": "DEFAULT"}) == "TLSv1.2"
