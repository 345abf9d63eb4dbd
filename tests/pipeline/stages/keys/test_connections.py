"""Connections that do nothing, or as little as possible, take no key from the others."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from erasestream.pipeline.stages.keys import connections
from erasestream.pipeline.stages.keys.connections import MAX_CONNECTIONS
from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.pipeline.stages.keys.key_answers import Answer
from erasestream.topics.catalog.roles import KEYS, Role
from erasestream.topics.kafka.tls import Identity
from tests.flow.waiting import eventually
from tests.leaks import no_leak
from tests.pipeline.stages.keys.key_harness import HOST, KeyHarness

BRIEF_S = 0.3
NEVER_S = 600.0
SILENT = "127.0.0.9"


def test_silent_connections_of_one_address_leave_some_to_the_others(
    harness: KeyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have shown no certificate yet; more of them than there are connections at all."""
    monkeypatch.setattr(connections, "HANDSHAKE_S", NEVER_S)
    replica = harness.start()
    replica.do_round()
    with ExitStack() as opened:
        for _ in range(MAX_CONNECTIONS + 8):
            address = (HOST, replica.stage.port)
            opened.enter_context(socket.create_connection(address, source_address=(SILENT, 0)))
        assert harness.client("shop.producer").sealing_key("inference.shop", timeout_s=60)


def before_the_handshake(address: tuple[str, int], _: Identity) -> tuple[socket.socket, bytes]:
    """Begin a record of TLS."""
    return socket.create_connection(address), b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"


def in_a_request(address: tuple[str, int], identity: Identity) -> tuple[socket.socket, bytes]:
    """Begin a request, with a certificate."""
    raw = socket.create_connection(address)
    secured = identity.ssl_context().wrap_socket(raw, server_hostname=HOST)
    return secured, b"GET /v1/public/inference.shop HTTP/1.1\r\nx: "


@pytest.mark.parametrize("begin", [before_the_handshake, in_a_request])
def test_a_connection_ends_however_slowly_it_sends(
    harness: KeyHarness,
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable[[tuple[str, int], Identity], tuple[socket.socket, bytes]],
) -> None:
    """Each byte comes in time, and the whole never."""
    replica = harness.start()
    replica.do_round()
    limit = "HANDSHAKE_S" if begin is before_the_handshake else "LIFE_S"
    other = "LIFE_S" if begin is before_the_handshake else "HANDSHAKE_S"
    monkeypatch.setattr(connections, other, NEVER_S)
    identity = Identity.load(harness.identities, Role("shop.producer"))
    with monkeypatch.context() as brief:
        brief.setattr(connections, limit, BRIEF_S)
        sock, start = begin((HOST, replica.stage.port), identity)
        end_slowly(sock, start)
    assert harness.client("shop.producer").sealing_key("inference.shop", timeout_s=60)


def end_slowly(sock: socket.socket, start: bytes) -> None:
    """Send a byte now and then until the server ends the connection."""

    def slowly() -> Iterator[bytes]:
        yield from (bytes([each]) for each in start)
        while True:
            yield b"a"

    pieces = slowly()
    sock.settimeout(0.02)

    def has_ended() -> bool:
        try:
            sock.sendall(next(pieces))
            return sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    with sock:
        eventually("the server has ended it", has_ended, deadline_s=60)


def test_a_server_without_a_thread_stops_listening(
    harness: KeyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    identity = Identity.load(harness.identities, KEYS)
    monkeypatch.setattr(threading.Thread, "start", fail)
    # While the error is kept, nothing is closed by the end of its last reference.
    with no_leak(), pytest.raises(RuntimeError) as failure:
        KeyServer(host=HOST, port=0, identity=identity, answer=lambda *_: Answer(200, ""))
    assert "thread" in str(failure.value)
