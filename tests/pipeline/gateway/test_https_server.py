"""The listening server: TLS, renewed certificates, connections without requests."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.gateway import https_server
from erasestream.pipeline.gateway.adapter import Adapter
from erasestream.pipeline.gateway.app import application
from erasestream.pipeline.gateway.https_server import HttpsServer
from erasestream.pipeline.gateway.loop_thread import LoopThread
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.tls_context import ServerTls
from erasestream.schemas.errors import CertificateRefused, MissingCertificate
from tests.flow.waiting import eventually

HOST = "127.0.0.1"
REQUEST = b"GET /path HTTP/1.1\r\nHost: gateway\r\n\r\n"
TIMEOUT_S = 30
LARGE = bytes(range(256)) * 100_000
"""More than sockets hold on their way."""
MEDIUM = LARGE[:1_000_000]


def now() -> datetime:
    return datetime.now(UTC)


def render(found: Problem, request_id: str) -> Response:
    return JSONResponse({"code": found.code, "id": request_id}, found.status)


async def hello(request: Request) -> Response:
    return Response(b"hello")


async def large(request: Request) -> Response:
    return Response(LARGE)


async def medium(request: Request) -> Response:
    return Response(MEDIUM)


class Served:
    """A server with a certificate that can be replaced."""

    def __init__(self, folder: Path) -> None:
        self.memory = MemoryBudget(10**9)
        self.folder = folder
        self.authority = CertificateAuthority.create(folder / "authority", now=now)
        self.issue()
        self.tls = ServerTls(folder / "gateway.crt", folder / "gateway.key")
        self.server = HttpsServer(HOST, 0, self.tls)

    def issue(self) -> None:
        self.authority.issue_server("gateway", self.folder, hosts=(HOST, "localhost"))

    @contextmanager
    def connected(
        self, *, host: str = HOST, source: str = HOST, **options: object
    ) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        for name, value in options.items():
            setattr(context, name, value)
        with (
            socket.create_connection((HOST, self.server.port), TIMEOUT_S, (source, 0)) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            yield secured


def serial(secured: ssl.SSLSocket) -> object:
    certificate = secured.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def ask(secured: ssl.SSLSocket, request: bytes = REQUEST) -> tuple[HTTPResponse, bytes]:
    secured.sendall(request)
    response = HTTPResponse(secured)
    response.begin()
    return response, response.read()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    routes = [Route("/path", hello), Route("/large", large), Route("/medium", medium)]
    app = application([Adapter(prefix="/", routes=routes, render=render)], served.memory)
    with LoopThread("gateway") as loop, closing(served.server):
        serving = loop.begin(served.server.serve(app, give_up=lambda: None))
        eventually("it serves", lambda: served.server.is_serving or serving.done())
        yield served
        served.server.stop()
        serving.result(TIMEOUT_S)


def test_a_server_that_is_stopped_before_it_serves_ends(tmp_path: Path) -> None:
    served = Served(tmp_path)
    app = application([], served.memory)
    with LoopThread("gateway") as loop, closing(served.server):
        served.server.stop()
        loop.begin(served.server.serve(app, give_up=lambda: None)).result(TIMEOUT_S)
    assert not served.server.is_serving


def test_a_renewed_certificate_is_used_and_connections_go_on(served: Served) -> None:
    """Whether a client names the host, or its address, of which TLS sends no name."""
    with served.connected() as before:
        first = serial(before)
        assert ask(before)[1] == b"hello"
        assert not served.tls.renew()
        served.issue()
        (served.folder / "gateway.key").rename(served.folder / "kept.key")
        (served.folder / "gateway.key").write_text("of another certificate")
        assert not served.tls.renew()
        with served.connected() as meanwhile:
            assert serial(meanwhile) == first
        (served.folder / "kept.key").rename(served.folder / "gateway.key")
        assert served.tls.renew()
        for host in (HOST, "localhost"):
            with served.connected(host=host) as after:
                assert serial(after) != first
                assert ask(after)[1] == b"hello"
        assert ask(before)[1] == b"hello"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_1_2_or_newer_with_aead_and_forward_secrecy(
    served: Served, version: ssl.TLSVersion
) -> None:
    with served.connected(minimum_version=version, maximum_version=version) as secured:
        suite = secured.cipher()
        assert suite is not None
        assert suite[0].startswith(("ECDHE", "TLS_"))
        assert suite[0].endswith(("GCM_SHA384", "GCM-SHA384", "GCM-SHA256", "POLY1305"))
        response, _ = ask(secured)
        assert response.headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize("suites", ["AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384"])
def test_other_suites_are_refused(served: Served, suites: str) -> None:
    context = ssl.create_default_context(cafile=str(served.folder / "ca.crt"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suites}:@SECLEVEL=0")
    with (
        socket.create_connection((HOST, served.server.port), TIMEOUT_S) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname=HOST)


def test_plaintext_gets_no_answer(served: Served) -> None:
    with socket.create_connection((HOST, served.server.port), TIMEOUT_S) as plain:
        plain.sendall(REQUEST)
        assert b"HTTP" not in plain.recv(65_536)


def test_connections_without_a_request_are_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has sent a part of a request, too."""
    monkeypatch.setattr(https_server, "HEAD_TIMEOUT_S", 0.2)
    with served.connected() as idle:
        assert idle.recv(1) == b""
    with served.connected() as slow, suppress(OSError):  # it may be closed before it sends
        slow.sendall(REQUEST[:10])
        assert slow.recv(1) == b""
    with served.connected() as trickling, suppress(OSError):
        trickling.sendall(REQUEST[:-2])
        trickling.settimeout(0.05)
        for _ in range(1000):
            with suppress(TimeoutError):
                assert trickling.recv(1) == b""
                break
            trickling.sendall(b"X")
        else:
            pytest.fail("a byte now and then keeps the connection")


def test_an_answer_waits_for_a_slow_client(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than a connection may be idle; it takes room in memory until then."""
    looks = looks_at(monkeypatch)
    with served.connected() as slow:
        slow.sendall(REQUEST.replace(b"/path", b"/large"))
        response = HTTPResponse(slow)
        response.begin()
        begun = len(looks)
        eventually("the connection is looked at", lambda: len(looks) > begun + 1)
        assert served.memory.used == len(LARGE)
        assert response.read() == LARGE
    eventually("the memory is free", lambda: served.memory.used == 0)


def test_the_end_of_an_answer_waits_as_well(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is: what is still in our buffers once all of it was written."""
    served.server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    looks = looks_at(monkeypatch)
    with served.connected() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        slow.sendall(REQUEST.replace(b"/path", b"/medium"))
        response = HTTPResponse(slow)
        response.begin()
        eventually("the answer takes room", lambda: served.memory.used > 0)
        read = b""
        while served.memory.used:
            read += response.read(4096)
        begun = len(looks)
        monkeypatch.setattr(https_server, "HEAD_TIMEOUT_S", 0.4)
        eventually("the connection is looked at", lambda: len(looks) > begun + 3)
        monkeypatch.setattr(https_server, "HEAD_TIMEOUT_S", 20.0)
        assert len(read) < len(MEDIUM) - 65_536
        assert read + response.read() == MEDIUM
        assert ask(slow)[1] == b"hello"


def looks_at(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Have connections looked at soon, and return the looks at them."""
    looks = list[None]()
    monkeypatch.setattr(https_server, "HEAD_TIMEOUT_S", 3.0)
    watch = https_server._Protocol._watch
    monkeypatch.setattr(
        https_server._Protocol, "_watch", lambda *given: (looks.append(None), watch(*given))
    )
    return looks


def test_an_answer_that_is_not_taken_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A request that takes half of this time is cut off; and the answer's room is seen taken.
    monkeypatch.setattr(https_server, "HEAD_TIMEOUT_S", 4.0)
    monkeypatch.setattr(https_server, "ANSWER_TIMEOUT_S", 0.2)
    with served.connected() as stuck:
        stuck.sendall(REQUEST.replace(b"/path", b"/large"))
        response = HTTPResponse(stuck)
        response.begin()
        eventually("the answer takes room", lambda: served.memory.used > 0)
        eventually("the memory is free", lambda: served.memory.used == 0)
        with pytest.raises((OSError, IncompleteRead)):
            response.read()


def test_errors_have_the_shape_of_their_adapter(served: Served) -> None:
    with served.connected() as secured:
        response, body = ask(secured, REQUEST.replace(b"/path", b"/other"))
        assert response.status == 404
        assert json.loads(body) == {"code": "no_such_path", "id": response.headers["X-Request-Id"]}


def test_files_that_are_no_certificate_are_refused(tmp_path: Path) -> None:
    certificate, key = tmp_path / "a.crt", tmp_path / "a.key"
    with pytest.raises(MissingCertificate):
        ServerTls(certificate, key)
    for path in (certificate, key):
        path.write_text("nothing")
    with pytest.raises(CertificateRefused):
        ServerTls(certificate, key)
