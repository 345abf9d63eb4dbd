"""A Kafka producer that makes its record batches by hand, so that any field may be false.

Record batches have magic 2; requests are Produce 7, over mutual TLS.

Source: https://kafka.apache.org/documentation/#messageformat
"""

import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple, Self

import google_crc32c

from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.tls import Identity

PRODUCE, PRODUCE_VERSION = 0, 7
TIMEOUT_S = 30.0
GZIP = 1
"""Attributes of a batch whose records are compressed with gzip."""

Headers = Sequence[tuple[str, bytes | None]]


def varint(number: int) -> bytes:
    """Encode a number as Kafka's records do: zigzag, seven bits to a byte."""
    rest = ((number << 1) ^ (number >> 63)) & 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append((rest & 0x7F) | 0x80)
        rest >>= 7
    return bytes([*encoded, rest])


def record(
    value: bytes | None, *, key: bytes | None = None, headers: Headers = (), offset_delta: int = 0
) -> bytes:
    """Encode a record, with any offset delta."""
    body = b"\0" + varint(0) + varint(offset_delta) + _sized(key) + _sized(value)
    body += varint(len(headers))
    for name, content in headers:
        body += _sized(name.encode()) + _sized(content)
    return varint(len(body)) + body


def batch(
    records: bytes, *, count: int, last_offset_delta: int | None = None, attributes: int = 0
) -> bytes:
    """Encode a batch of encoded records, compressed as the attributes say."""
    last = count - 1 if last_offset_delta is None else last_offset_delta
    now_ms = int(time.time() * 1000)
    # No producer id, epoch or sequence.
    fields = (attributes, last, now_ms, now_ms, -1, -1, -1, count)
    checked = struct.pack(">hiqqqhii", *fields) + records
    magic = struct.pack(">ibI", -1, 2, google_crc32c.value(checked))
    return struct.pack(">qi", 0, len(magic) + len(checked)) + magic + checked


class Answer(NamedTuple):
    """The broker's answer: an error code (0: none), and the offset of the first record."""

    error: int
    base_offset: int


class RawProducer:
    """A connection to one broker, as one role.  A context manager."""

    def __init__(self, cluster: Cluster, role: Role) -> None:
        host, _, port = cluster.bootstrap_servers[0].rpartition(":")
        context = Identity.load(cluster.identities, role).ssl_context()
        plain = socket.create_connection((host, int(port)), TIMEOUT_S)
        self._socket = context.wrap_socket(plain, server_hostname=host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def produce(self, topic: str, partition: int, encoded: bytes) -> Answer:
        """Send a batch, to be acknowledged by all replicas.

        Raises `ConnectionError` if the broker closes the connection instead of answering.
        """
        body = _string(None) + struct.pack(">hi", -1, int(TIMEOUT_S * 1000))
        body += struct.pack(">i", 1) + _string(topic)
        body += struct.pack(">iii", 1, partition, len(encoded)) + encoded
        answer = self._request(PRODUCE, PRODUCE_VERSION, body)
        # One topic, its name, one partition with its number.
        at = 4 + 2 + len(topic) + 4 + 4
        return Answer(*struct.unpack_from(">hq", answer, at))

    def _request(self, api: int, version: int, body: bytes) -> bytes:
        request = struct.pack(">hhi", api, version, 1) + _string("raw") + body
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", self._read(4))
        return self._read(size)[4:]

    def _read(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self._socket.recv(size - len(received))
            if not piece:
                raise ConnectionError("closed by the broker")
            received += piece
        return received


def _sized(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def _string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()
