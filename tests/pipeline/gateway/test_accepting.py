"""Room for connections: in total, and from each address."""

import asyncio
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from starlette.routing import Route

from erasestream.pipeline.gateway import https_server
from erasestream.pipeline.gateway.accepting import (
    Acceptor,
    ConnectionLimits,
    ConnectionRoom,
    ServedProtocol,
    Timeouts,
    network_of,
    open_files,
)
from erasestream.pipeline.gateway.adapter import Adapter
from erasestream.pipeline.gateway.app import application
from erasestream.pipeline.gateway.https_server import HttpsServer
from erasestream.pipeline.gateway.loop_thread import LoopThread
from tests.flow.waiting import eventually
from tests.pipeline.gateway.test_https_server import HOST, TIMEOUT_S, Served, ask, hello, render

OTHER = "127.0.0.2"


def connection(served: Served, address: str) -> socket.socket:
    return socket.create_connection((HOST, served.server.port), TIMEOUT_S, (address, 0))


def is_closed(plain: socket.socket) -> bool:
    try:
        return plain.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Yield a server with room for four connections, three of them from one address."""
    served = Served(tmp_path)
    served.server.close()
    limits = ConnectionLimits(most=4, of_address=3)
    served.server = HttpsServer(HOST, 0, served.tls, limits=limits)
    routes = [Route("/path", hello)]
    app = application([Adapter(prefix="/", routes=routes, render=render)], served.memory)
    with LoopThread("gateway") as loop, closing(served.server):
        serving = loop.begin(served.server.serve(app, give_up=lambda: None))
        eventually("it serves", lambda: served.server.is_serving or serving.done())
        yield served
        served.server.stop()
        serving.result(TIMEOUT_S)


def answers(served: Served, address: str) -> bool:
    """Return whether a connection from this address is answered, and not closed at once."""
    try:
        with served.connected(source=address) as secured:
            return ask(secured)[1] == b"hello"
    except OSError:
        return False


def test_one_address_leaves_room_for_others_and_gets_its_own_back(served: Served) -> None:
    with ExitStack() as opened:
        for _ in range(3):  # without a handshake
            opened.enter_context(connection(served, OTHER))
        with connection(served, OTHER) as fourth:
            assert is_closed(fourth)
        last = opened.enter_context(connection(served, "127.0.0.3"))
        with connection(served, HOST) as fifth:
            assert is_closed(fifth)
        last.close()
        eventually("there is room again", lambda: answers(served, HOST))
    eventually("there is room for the address again", lambda: answers(served, OTHER))


def test_a_handshake_that_does_not_end_gives_its_room_back(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as opened:
        stuck = [opened.enter_context(connection(served, OTHER)) for _ in range(3)]
        stuck[0].sendall(b"\x16\x03\x01\x02\x00")  # a record's head, and no more
        for each in stuck:
            assert is_closed(each)  # waits for as long as a handshake may take
        eventually("there is room again", lambda: answers(served, OTHER))


@pytest.fixture(autouse=True)
def _short_handshakes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "does_not_end" in request.node.name:
        monkeypatch.setattr(https_server, "HEAD_TIMEOUT_S", 1.0)


async def test_a_flood_of_refused_connections_leaves_turns_to_all_else() -> None:
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server((HOST, 0), backlog=64))
        address = listener.getsockname()
        flood = [opened.enter_context(socket.create_connection(address)) for _ in range(32)]
        acceptor = Acceptor(
            listener,
            room=ConnectionRoom(ConnectionLimits(most=0, of_address=0), files=64),
            context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            protocol=ServedProtocol,
            timeouts=Timeouts(handshake_s=TIMEOUT_S, last_bytes_s=TIMEOUT_S),
        )
        accepting = asyncio.create_task(acceptor.run())
        await asyncio.sleep(0)
        assert select.select(flood, [], [], 0)[0] != flood, "all were refused in one turn"
        for _ in flood:
            await asyncio.sleep(0)
        accepting.cancel()
        await asyncio.wait([accepting])
        assert all(map(is_closed, flood))


def test_half_of_the_files_are_left_to_everything_else() -> None:
    room = ConnectionRoom(ConnectionLimits(most=10**9, of_address=10**9), files=20)
    for _ in range(10):
        assert room.has("a")
        room.take("a")
    assert not room.has("a")
    room.give_back("a")
    assert room.has("a")
    assert open_files() > 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network
