"""Whether a broker serves: a real TLS handshake, then one question in Kafka's own protocol.

The question is Metadata (version 1, no topics): its answer lists the brokers that are in
service.  With TLS 1.3 a server's refusal of our certificate shows only when we read, so a
handshake alone would not prove that we may come in.
"""

import socket
import ssl
import struct
from pathlib import Path

_METADATA, _VERSION, _CORRELATION = 3, 1, 1
_MAX_ANSWER_BYTES = 1_000_000
_ANSWER_TIMEOUT_S = 5.0


def client_context(identities: Path, name: str) -> ssl.SSLContext:
    """TLS 1.3 as `name`, with chain and host name verified."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(identities / "ca.crt"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identities / f"{name}.crt", identities / f"{name}.key")
    return context


def check_certificate(host: str, port: int, context: ssl.SSLContext) -> None:
    """Verify the certificate of who answers there.

    Raises `ssl.SSLCertVerificationError` if it does not do, another `OSError` if nobody answers.
    """
    with (
        socket.create_connection((host, port), timeout=_ANSWER_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        return


def brokers_in_service(host: str, port: int, context: ssl.SSLContext) -> frozenset[int]:
    """The ids of the brokers in service, as the one at this address sees it.

    Raises `OSError` (`ssl.SSLError` among them) while it does not answer.
    """
    with (
        socket.create_connection((host, port), timeout=_ANSWER_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        # Header version 1: key, version, correlation id, a null client id; then no topics.
        request = struct.pack(">hhihi", _METADATA, _VERSION, _CORRELATION, -1, 0)
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", _exactly(connection, 4))
        if not 0 < length <= _MAX_ANSWER_BYTES:
            raise ConnectionError("no answer in Kafka's protocol")
        return _node_ids(_exactly(connection, length))


def _exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = connection.recv(size - len(content))
        if not piece:
            raise ConnectionError("the connection ended before its answer")
        content += piece
    return bytes(content)


def _node_ids(answer: bytes) -> frozenset[int]:
    """Correlation id, then per broker: id, host (string), port, rack (nullable string)."""
    try:
        correlation, count = struct.unpack_from(">ii", answer)
        if correlation != _CORRELATION:
            raise ConnectionError("an answer to another question")
        offset, found = 8, set()
        for _ in range(count):
            node_id, host_size = struct.unpack_from(">ih", answer, offset)
            offset += 6 + host_size + 4
            (rack_size,) = struct.unpack_from(">h", answer, offset)
            offset += 2 + max(0, rack_size)
            found.add(node_id)
    except struct.error as error:
        raise ConnectionError("an answer that is cut off") from error
    return frozenset(found)
