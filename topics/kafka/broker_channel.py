"""One connection to a broker, for requests that the client library has no call for.

TLS and SASL are those of the role's other clients.  Source: https://kafka.apache.org/protocol
"""

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from erasestream.schemas.errors import NotAuthenticated, Unavailable
from erasestream.topics.kafka.sasl import Sasl
from erasestream.topics.kafka.sasl_exchange import authenticate
from erasestream.topics.kafka.tls import Identity

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
MAX_ANSWER_BYTES = 16_000_000


class Answer:
    """Fields of an answer, in their order."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def read(self, layout: str) -> int:
        """Return the next integer.  Raises `struct.error` if the answer ends before it."""
        (number,) = struct.unpack_from(layout, self._raw, self._at)
        self._at += struct.calcsize(layout)
        return number  # type: ignore[no-any-return]

    def number(self) -> float:
        """Return the next number with a fraction."""
        return float(self.read(">d"))

    def string(self) -> str:
        """Return the next string; null is empty."""
        return self._take(self.read(">h")).decode()

    def data(self) -> bytes:
        """Return the next byte string; null is empty."""
        return self._take(self.read(">i"))

    def _take(self, size: int) -> bytes:
        size = max(0, size)
        self._at += size
        return self._raw[self._at - size : self._at]


class BrokerChannel:
    """An open connection."""

    def __init__(self, channel: ssl.SSLSocket) -> None:
        self._channel = channel

    def request(self, api: int, body: bytes, *, version: int = 0) -> Answer:
        """Send a request and return its answer.

        Raises `OSError`, or `Unavailable` for what is no answer.
        """
        request = struct.pack(">hhi", api, version, api) + string("erasestream") + body
        self._channel.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", self._receive(4))
        if size > MAX_ANSWER_BYTES:
            raise Unavailable("not an answer of a broker")
        answer = Answer(self._receive(size))
        answer.read(">i")  # the request's number
        return answer

    def authenticate(self, sasl: Sasl) -> None:
        """Prove the role.  Raises `NotAuthenticated`."""
        answer = self.request(SASL_HANDSHAKE, string(sasl.mechanism), version=1)
        if answer.read(">h"):
            raise NotAuthenticated(f"the brokers do not offer {sasl.mechanism}")
        authenticate(sasl, self._exchange)

    def _exchange(self, message: bytes) -> bytes:
        answer = self.request(SASL_AUTHENTICATE, struct.pack(">i", len(message)) + message)
        error, reason = answer.read(">h"), answer.string()
        if error:
            raise NotAuthenticated(reason)
        return answer.data()

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self._channel.recv(size - len(received))
            if not piece:
                raise ConnectionError("closed by the broker")
            received += piece
        return received


@contextmanager
def connected(server: str, identity: Identity, *, timeout_s: float) -> Iterator[BrokerChannel]:
    """Open a connection to a server (`host:port`) for the block.

    Raises `OSError`, also `ssl.SSLCertVerificationError`, and `NotAuthenticated`.
    """
    host, _, port = server.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout_s) as plain,
        identity.ssl_context().wrap_socket(plain, server_hostname=host) as secured,
    ):
        channel = BrokerChannel(secured)
        if identity.sasl:
            channel.authenticate(identity.sasl)
        yield channel


def string(text: str | None) -> bytes:
    """Return a nullable string as the protocol has it."""
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()
