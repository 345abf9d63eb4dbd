"""Who is talked to and who is let in: with the settings that all our Kafka clients have."""

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
from erasestream.schemas.errors import Code, ErasestreamError, Refused
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.client.upload_producer import SendingLimits, UploadProducer
from erasestream.topics.kafka.connection import Cluster, Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.waiting import eventually

PRODUCER = lane_role(SHOP, LaneRole.PRODUCER)
HOST = "127.0.0.1"
BRIEFLY = SendingLimits(readiness_s=3.0)


def now() -> datetime:
    """The clock of the certificates."""
    return datetime.now(UTC)


@pytest.fixture
def settings(bare: PipelineHarness) -> Settings:
    """What every client of ours is made with."""
    return Connection(cluster=bare.stack.cluster, role=PRODUCER).settings(ClientErrorState())


def trouble_of(settings: Settings) -> list[KafkaError]:
    """What a client reports while it gets no answer; nothing if it gets one."""
    reported: list[KafkaError] = []
    client = AdminClient(settings | {"error_cb": reported.append})
    try:
        client.list_topics(timeout=2)
    except KafkaException:
        eventually("a reason", lambda: client.poll(0.1) or reported)
        return reported
    return []


def test_with_certificate(settings: Settings) -> None:
    """Nothing is wrong with these settings as they are."""
    assert trouble_of(settings) == []


def test_without_certificate(settings: Settings) -> None:
    """A client without a certificate gets no answer."""
    nameless = {
        name: value
        for name, value in settings.items()
        if name not in ("ssl.certificate.location", "ssl.key.location")
    }
    text = " ".join(error.str() for error in trouble_of(nameless))
    assert "certificate" in text


def test_plaintext(settings: Settings) -> None:
    """A client without TLS gets no answer."""
    plain = {name: value for name, value in settings.items() if not name.startswith("ssl.")}
    del plain["enable.ssl.certificate.verification"]
    assert trouble_of(plain | {"security.protocol": "plaintext"})


@pytest.fixture
def strangers(bare: PipelineHarness, tmp_path: Path) -> Cluster:
    """The identity of the producer as another authority issued it; it trusts the broker."""
    authority = CertificateAuthority.create(tmp_path / "authority", now=now)
    authority.issue_role(PRODUCER, tmp_path / "identities")
    ca = (bare.stack.files.identities / "ca.crt").read_bytes()
    (tmp_path / "identities" / "ca.crt").write_bytes(ca)
    cluster = bare.stack.cluster
    return Cluster(bootstrap_servers=cluster.bootstrap_servers, identities=tmp_path / "identities")


def test_certificate_of_another_authority(strangers: Cluster) -> None:
    """A certificate that another authority signed opens nothing, and that is said."""
    with pytest.raises(ErasestreamError) as caught:
        UploadProducer(strangers, SHOP, limits=BRIEFLY)
    assert caught.value.code is Code.CERTIFICATE_REFUSED, caught.value


def test_broker_of_another_authority(bare: PipelineHarness, tmp_path: Path) -> None:
    """A broker whose certificate another authority signed is not talked to."""
    CertificateAuthority.create(tmp_path / "authority", now=now).issue_role(PRODUCER, tmp_path)
    cluster = Cluster(bootstrap_servers=bare.stack.cluster.bootstrap_servers, identities=tmp_path)
    with pytest.raises(Refused) as caught:
        UploadProducer(cluster, SHOP, limits=BRIEFLY)
    assert caught.value.code is Code.CERTIFICATE_REFUSED


Handshakes = Queue[str]
"""The TLS version of each handshake that was completed, or why one was not."""


@contextmanager
def server(
    bare: PipelineHarness, folder: Path, host: str, version: ssl.TLSVersion
) -> Iterator[tuple[int, Handshakes]]:
    """A server with a good certificate for this host that speaks only this version of TLS."""
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
            thread.join(10)


def _serve(listening: socket.socket, context: ssl.SSLContext, handshakes: Handshakes) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        try:
            plain.settimeout(5)
            with context.wrap_socket(plain, server_side=True) as connection:
                # With TLS 1.3 the client's refusal comes after our side of the handshake.
                handshakes.put(str(connection.version()) if connection.recv(1) else "closed")
        except OSError as error:
            handshakes.put(getattr(error, "reason", None) or type(error).__name__)


@pytest.fixture
def handshake(
    bare: PipelineHarness, settings: Settings, tmp_path: Path
) -> Callable[[str, ssl.TLSVersion, Settings], str]:
    """What a server with a certificate for this host sees of a client with these settings."""

    def see(host: str, version: ssl.TLSVersion, changed: Settings) -> str:
        with server(bare, tmp_path, host, version) as (port, handshakes):
            client = AdminClient(settings | {"bootstrap.servers": f"{HOST}:{port}"} | changed)
            with pytest.raises(KafkaException):  # nobody there speaks Kafka's protocol
                client.list_topics(timeout=1)
            return handshakes.get(timeout=20)

    return see


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def test_right_host(handshake: Callable[[str, ssl.TLSVersion, Settings], str]) -> None:
    """A server that has a certificate for its host, and TLS 1.3, is talked to."""
    assert handshake(HOST, V13, {}) == "TLSv1.3"


def test_wrong_host(handshake: Callable[[str, ssl.TLSVersion, Settings], str]) -> None:
    """A server with a certificate of our authority for another host is not."""
    assert not handshake("elsewhere.example", V13, {}).startswith("TLS")


def test_old_tls(handshake: Callable[[str, ssl.TLSVersion, Settings], str]) -> None:
    """A server that has no more than TLS 1.2 is not, and it is our list of suites that does it."""
    assert not handshake(HOST, V12, {}).startswith("TLSv")
    assert handshake(HOST, V12, {"ssl.cipher.suites": "DEFAULT"}) == "TLSv1.2"
