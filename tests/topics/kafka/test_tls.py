"""What a client of ours completes a handshake with; the server here speaks TLS and no more."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.errors import Code, ErasestreamError
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.tls import Identity

ANSWER_S = 5.0


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A broker's identity and the administrator's."""
    folder = tmp_path_factory.mktemp("tls")
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    authority.issue_broker("broker", folder / "identities")
    authority.issue_role(ADMIN, folder / "identities")
    return folder / "identities"


class Listener:
    """Shakes hands with whoever comes, in one version of TLS, and remembers how it went."""

    def __init__(self, identities: Path, version: ssl.TLSVersion) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # With every suite that this OpenSSL has: what is refused is the client's refusal.
        self._context.set_ciphers("ALL:@SECLEVEL=0")
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(identities / "broker.crt", identities / "broker.key")
        self._context.load_verify_locations(identities / "ca.crt")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.came = threading.Event()
        self.shaken: list[str | None] = []

    def serve(self) -> None:
        """Until the socket is closed."""
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            plain.settimeout(ANSWER_S)
            with (
                contextlib.suppress(OSError),
                self._context.wrap_socket(plain, server_side=True) as s,
            ):
                self.shaken.append(s.version())
            plain.close()
            self.came.set()

    def close(self) -> None:
        """Wake `serve` up, which then ends."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextlib.contextmanager
def listening(identities: Path, version: ssl.TLSVersion) -> Iterator[Listener]:
    """A listener at work."""
    listener = Listener(identities, version)
    thread = threading.Thread(target=listener.serve, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.close()
        thread.join()


def ask(identities: Path, port: int) -> ErasestreamError:
    """How a question of librdkafka to that port ends; nobody there speaks Kafka."""
    cluster = Cluster(bootstrap_servers=(f"127.0.0.1:{port}",), identities=identities)
    admin = Admin(Connection(cluster=cluster, role=ADMIN), timeout_s=3.0)
    with pytest.raises(ErasestreamError) as raised:
        OffsetQueries(admin).topic_ids(["uploads.shop"])
    return raised.value


def test_librdkafka_shakes_hands_in_tls_1_3(identities: Path) -> None:
    """The cipher list that forbids the older versions leaves this one alone."""
    with listening(identities, ssl.TLSVersion.TLSv1_3) as listener:
        ask(identities, listener.port)
        assert listener.came.wait(ANSWER_S)
    assert set(listener.shaken) == {"TLSv1.3"}


def test_librdkafka_refuses_tls_1_2(identities: Path) -> None:
    """A server that offers every suite of TLS 1.2 gets no handshake, and the caller a sentence."""
    with listening(identities, ssl.TLSVersion.TLSv1_2) as listener:
        error = ask(identities, listener.port)
        assert listener.came.wait(ANSWER_S)
    assert listener.shaken == []
    assert error.code is Code.CERTIFICATE_REFUSED


def test_python_clients_refuse_tls_1_2(identities: Path) -> None:
    """The twin for clients on Python's ssl."""
    context = Identity.load(identities, ADMIN).ssl_context()
    with (
        listening(identities, ssl.TLSVersion.TLSv1_2) as listener,
        socket.create_connection(("127.0.0.1", listener.port), ANSWER_S) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    assert listener.shaken == []
