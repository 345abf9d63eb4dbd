"""TLS versions that our clients accept, against a server that only shakes hands."""

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
from erasestream.topics.kafka.tls import Identity, MinimumTls
from tests.flow.waiting import eventually

ANSWER_S = 30.0


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Issue a broker's identity and the administrator's."""
    folder = tmp_path_factory.mktemp("tls")
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    authority.issue_broker("broker", folder / "identities")
    authority.issue_role(ADMIN, folder / "identities")
    return folder / "identities"


class Listener:
    """A server that accepts one TLS version, and records the handshakes."""

    def __init__(self, identities: Path, version: ssl.TLSVersion, suites: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_ciphers(suites)
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(identities / "broker.crt", identities / "broker.key")
        self._context.load_verify_locations(identities / "ca.crt")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.connected = threading.Event()
        self.versions: list[str | None] = []

    def serve(self) -> None:
        """Accept connections until the socket is closed."""
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
                self.versions.append(s.version())
            plain.close()
            self.connected.set()

    def close(self) -> None:
        """Close the socket, which ends `serve`."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


EVERY_SUITE = "ALL:@SECLEVEL=0"
"""With every suite of this OpenSSL a refusal is the client's."""


@contextlib.contextmanager
def listening(
    identities: Path, version: ssl.TLSVersion, suites: str = EVERY_SUITE
) -> Iterator[Listener]:
    """Run a listener during the block."""
    listener = Listener(identities, version, suites)
    thread = threading.Thread(target=listener.serve, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.close()
        thread.join()


def error_of_a_request(
    identities: Path, port: int, minimum_tls: MinimumTls = MinimumTls.TLS_1_3
) -> ErasestreamError:
    cluster = Cluster(
        bootstrap_servers=(f"127.0.0.1:{port}",), identities=identities, minimum_tls=minimum_tls
    )
    with (
        Admin(Connection(cluster=cluster, role=ADMIN), timeout_s=3.0) as admin,
        pytest.raises(ErasestreamError) as raised,
    ):
        OffsetQueries(admin).topic_ids(["uploads.shop"])
    return raised.value


def request_until_a_handshake(
    identities: Path, listener: Listener, minimum_tls: MinimumTls = MinimumTls.TLS_1_3
) -> None:
    """Repeat the request: on a busy machine one can end in the middle of its handshake."""

    def has_shaken_hands() -> bool:
        error_of_a_request(identities, listener.port, minimum_tls)
        return bool(listener.versions)

    eventually("a handshake", has_shaken_hands)


def test_librdkafka_shakes_hands_in_tls_1_3(identities: Path) -> None:
    """The cipher list that rules out the older versions does not affect TLS 1.3."""
    with listening(identities, ssl.TLSVersion.TLSv1_3) as listener:
        request_until_a_handshake(identities, listener)
    assert set(listener.versions) == {"TLSv1.3"}


def test_librdkafka_refuses_tls_1_2(identities: Path) -> None:
    with listening(identities, ssl.TLSVersion.TLSv1_2) as listener:
        # On a busy machine a request can end before the client has reported its handshake.
        eventually(
            "the refused handshake is reported",
            lambda: error_of_a_request(identities, listener.port).code is Code.CERTIFICATE_REFUSED,
        )
        assert listener.connected.wait(ANSWER_S)
    assert listener.versions == []


def test_python_clients_refuse_tls_1_2(identities: Path) -> None:
    context = Identity.load(identities, ADMIN).ssl_context()
    with (
        listening(identities, ssl.TLSVersion.TLSv1_2) as listener,
        socket.create_connection(("127.0.0.1", listener.port), ANSWER_S) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    assert listener.versions == []


def python_handshake(identities: Path, port: int) -> str | None:
    """Return the version of a handshake of a Python client that accepts TLS 1.2."""
    context = Identity.load(identities, ADMIN, minimum_tls=MinimumTls.TLS_1_2).ssl_context()
    with (
        socket.create_connection(("127.0.0.1", port), ANSWER_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        return secured.version()


GOOD, NO_AEAD, OLD = (
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"),
    (ssl.TLSVersion.TLSv1_1, EVERY_SUITE),
)


def test_clients_that_may_accept_tls_1_2_with_aead_and_forward_secrecy(identities: Path) -> None:
    with listening(identities, *GOOD) as listener:
        request_until_a_handshake(identities, listener, MinimumTls.TLS_1_2)
        assert python_handshake(identities, listener.port) == "TLSv1.2"
    assert set(listener.versions) == {"TLSv1.2"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("offer", [NO_AEAD, OLD], ids=["no-aead", "tls-1.1"])
def test_they_accept_nothing_weaker(identities: Path, offer: tuple[ssl.TLSVersion, str]) -> None:
    with listening(identities, *offer) as listener:
        eventually(
            "the refused handshake is reported",
            lambda: (
                error_of_a_request(identities, listener.port, MinimumTls.TLS_1_2).code
                is Code.CERTIFICATE_REFUSED
            ),
        )
        with pytest.raises(OSError):  # noqa: PT011 (ssl.SSLError or a reset)
            python_handshake(identities, listener.port)
    assert listener.versions == []
