"""Connections that only cost: the server answers others meanwhile, and keeps no memory of them."""

import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from erasestream.pipeline.gateway import request_body
from erasestream.pipeline.gateway.adapter import Adapter
from erasestream.pipeline.gateway.app import application
from erasestream.pipeline.gateway.loop_thread import LoopThread
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.request_body import BodyRules, memory_for, read_body
from erasestream.pipeline.gateway.routes.v2 import render
from erasestream.schemas.ids import AccountId
from tests.flow.waiting import eventually
from tests.pipeline.gateway.test_https_server import HOST, TIMEOUT_S, Served

RULES = BodyRules(
    max_image_bytes=100_000,
    file_fields=frozenset({"image_file"}),
    base64_fields=frozenset({"image_base64"}),
)
IDLE = 1000
CLOSED = ConnectionError, ssl.SSLError
"""Errors at a connection that the server has closed; not those of waiting in vain."""
HEAD = b"POST /image HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
MULTIPART_HEAD = HEAD.replace(b"application/json", b"multipart/form-data; boundary=b")
PART = (
    b'61\r\n--b\r\nContent-Disposition: form-data; name="image_file"; filename="a"\r\n'
    b"Content-Type: image/png\r\n\r\n\r\n"
)
CHUNK = b"4000\r\n" + b"A" * 0x4000 + b"\r\n"


class Attacked(Served):
    """A server that reads bodies within a budget of memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.memory = MemoryBudget(20 * RULES.max_bytes)

    async def take(self, request: Request) -> Response:
        with self.memory.admit(memory_for(request, RULES), AccountId("a")):
            body = await read_body(request, RULES)
            return Response(f"{len(body.values)}")

    def goes_on(self) -> bool:
        """Return whether another request is answered, and nothing is kept of earlier ones."""
        with self.connected() as other:
            other.sendall(HEAD + b"Content-Length: 8\r\n\r\n" + b'{"a": 1}')
            response = answer_to(other)
            return response.status == 200 and response.read() == b"1" and self.memory.used == 0


def answer_to(secured: ssl.SSLSocket) -> HTTPResponse:
    response = HTTPResponse(secured)
    response.begin()
    return response


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    served = Attacked(tmp_path)
    route = Route("/image", served.take, methods=["POST"])
    app = application([Adapter(prefix="/", routes=[route], render=render)], served.memory)
    with LoopThread("gateway") as loop, closing(served.server):
        serving = loop.begin(served.server.serve(app, give_up=lambda: None))
        eventually("it serves", lambda: served.server.is_serving or serving.done())
        yield served
        served.server.stop()
        serving.result(TIMEOUT_S)


def test_a_thousand_idle_connections(attacked: Attacked) -> None:
    """From one address.  Some have sent nothing at all, some a part of a request."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * IDLE)), hard))
    address = HOST, attacked.server.port
    with ExitStack() as opened:
        for _ in range(IDLE):
            opened.enter_context(socket.create_connection(address, TIMEOUT_S, ("127.0.0.2", 0)))
        for _ in range(20):
            opened.enter_context(attacked.connected(source="127.0.0.3")).sendall(HEAD)
        eventually("it goes on", attacked.goes_on)


def test_a_body_that_trickles_is_given_up(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.2)
    with attacked.connected() as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        assert answer_to(slow).status == 408
    eventually("its memory is free", attacked.goes_on)


def test_a_half_closed_connection_ends_its_request(attacked: Attacked) -> None:
    with attacked.connected() as half:
        half.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        half.shutdown(socket.SHUT_WR)
        with suppress(*CLOSED):
            while half.recv(65_536):
                pass
    eventually("its memory is free", attacked.goes_on)


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"Content-Length: 1000000000000\r\n\r\n",
        HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 100,
        MULTIPART_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + PART + CHUNK * 100,
    ],
)
def test_a_body_without_end_is_refused_and_its_connection_closed(
    attacked: Attacked, start: bytes
) -> None:
    with attacked.connected() as endless:
        with suppress(*CLOSED):  # perhaps while we send
            endless.sendall(start)
        with suppress(*CLOSED):  # the answer may be lost with what was sent in vain
            response = answer_to(endless)
            assert (response.status, response.headers["Connection"]) == (413, "close")
            response.read()
            assert not endless.recv(1)
    eventually("its memory is free", attacked.goes_on)


def test_a_head_without_end_is_refused(attacked: Attacked) -> None:
    with attacked.connected() as endless, suppress(*CLOSED):
        endless.sendall(HEAD + b"X-More: " + b"a" * 200_000)
        assert answer_to(endless).status in {400, 431}
    eventually("its memory is free", attacked.goes_on)
