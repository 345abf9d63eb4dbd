"""A Kafka client that can forge: record batches made by hand, sent with a role's certificate.

Each field of a batch can be any value, whatever the records say.  It speaks as much of the
protocol as that needs.

Sources: https://kafka.apache.org/documentation/#recordbatch and #protocol: Produce version 7,
InitProducerId version 0.
"""

import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import google_crc32c

from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster, Connection

Headers = Iterable[tuple[str | bytes, bytes | None]]

TIMEOUT_S = 30.0
NO_PRODUCER = -1
NO_ERROR = 0
NOT_LEADER = 6
DUPLICATE_SEQUENCE = 46
MAX_EPOCH = 2**15 - 1
GZIP = 1
"""Attributes of a batch whose records are compressed with gzip."""
_PRODUCE, _PRODUCE_VERSION = 0, 7
_INIT_PRODUCER_ID, _INIT_VERSION = 22, 0
_MAGIC = 2
_AFTER_CRC = struct.Struct(">hiqqqhii")
_BEFORE_RECORDS = struct.Struct(">qiibI")


def varint(number: int) -> bytes:
    """Encode a number in zigzag, as the fields of a record."""
    rest = ((number << 1) ^ (number >> 63)) & 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _sized(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record(
    delta: int,
    value: bytes | None,
    headers: Headers = (),
    *,
    key: bytes | None = None,
    since_first_ms: int = 0,
    header_count: int | None = None,
) -> bytes:
    """Return a record that claims this offset delta, and this number of headers."""
    named = [(name.encode() if isinstance(name, str) else name, text) for name, text in headers]
    body = b"".join(
        (
            b"\0",
            varint(since_first_ms),
            varint(delta),
            _sized(key),
            _sized(value),
            varint(len(named) if header_count is None else header_count),
            *(_sized(name) + _sized(text) for name, text in named),
        )
    )
    return varint(len(body)) + body


@dataclass(frozen=True, kw_only=True)
class BatchHeader:
    """Claims of a batch about its records; None is the truth."""

    count: int | None = None
    last_delta: int | None = None
    attributes: int = 0
    timestamp_ms: int | None = None
    producer_id: int = NO_PRODUCER
    epoch: int = -1
    sequence: int = -1


def batch(records: Sequence[bytes] | bytes, header: BatchHeader | None = None) -> bytes:
    """Return a batch of these records; `bytes` are the records as they are, such as compressed."""
    header = header or BatchHeader()
    raw = records if isinstance(records, bytes) else b"".join(records)
    count = len(records) if header.count is None else header.count
    now_ms = int(time.time() * 1000) if header.timestamp_ms is None else header.timestamp_ms
    after_crc = (
        _AFTER_CRC.pack(
            header.attributes,
            count - 1 if header.last_delta is None else header.last_delta,
            now_ms,
            now_ms,
            header.producer_id,
            header.epoch,
            header.sequence,
            count,
        )
        + raw
    )
    # The length counts all that follows it: leader epoch, magic, CRC and the rest.
    length = _BEFORE_RECORDS.size - 12 + len(after_crc)
    return _BEFORE_RECORDS.pack(0, length, -1, _MAGIC, google_crc32c.value(after_crc)) + after_crc


def lz4_frame(data: bytes) -> bytes:
    """Return an LZ4 frame with the data as one block that is not compressed.

    Source: LZ4 Frame Format 1.6.1; independent blocks, no checksums, no size.
    """
    descriptor = bytes.fromhex("04224d18604082")
    is_plain = 1 << 31
    return descriptor + struct.pack("<I", len(data) | is_plain) + data + bytes(4)


class Produced(NamedTuple):
    """The answer of a broker: its error code, and the offset of the first record."""

    error: int
    base_offset: int
    throttle_ms: int
    """Time that the client must wait, since it exceeds its quota."""


class RawKafka:
    """Produce requests over mutual TLS."""

    def __init__(self, cluster: Cluster, role: Role) -> None:
        self._servers = cluster.bootstrap_servers
        self._tls = Connection(cluster=cluster, role=role).identity.ssl_context()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect.  Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def produce(self, topic: str, partition: int, records: bytes) -> Produced:
        """Send a batch to the leader, and return its answer.  Raises `ConnectionError`."""
        for _ in self._servers:
            produced = self._produce(topic, partition, records)
            if produced.error != NOT_LEADER:
                break
            self.close()
            self._servers = (*self._servers[1:], self._servers[0])
        return produced

    def new_producer_id(self) -> int | None:
        """Return the next id of an idempotent producer, None while the broker is not ready.

        A broker counts upwards.
        """
        timeout_ms = struct.pack(">i", 30_000)
        answer = self._ask(_header(_INIT_PRODUCER_ID, _INIT_VERSION) + _text(None) + timeout_ms)
        _, _, error_code, producer_id, _ = struct.unpack(">iihqh", answer)
        return int(producer_id) if error_code == NO_ERROR else None

    def _produce(self, topic: str, partition: int, records: bytes) -> Produced:
        acks, timeout_ms, one = -1, 30_000, struct.pack(">i", 1)
        body = b"".join(
            (
                _header(_PRODUCE, _PRODUCE_VERSION),
                _text(None) + struct.pack(">hi", acks, timeout_ms),
                one + _text(topic) + one + struct.pack(">ii", partition, len(records)),
                records,
            )
        )
        answer = self._ask(body)
        # Correlation id, one topic and its name, one partition and its number.
        _, error_code, base_offset = struct.unpack_from(">ihq", answer, 14 + len(topic.encode()))
        (throttle_ms,) = struct.unpack(">i", answer[-4:])
        return Produced(error_code, base_offset, throttle_ms)

    def _ask(self, body: bytes) -> bytes:
        try:
            return self._exchange(struct.pack(">i", len(body)) + body)
        except OSError as error:
            self.close()
            raise ConnectionError("the broker has closed the connection") from error

    def _exchange(self, request: bytes) -> bytes:
        if self._socket is None:
            host, _, port = self._servers[0].rpartition(":")
            plain = socket.create_connection((host, int(port)), TIMEOUT_S)
            self._socket = self._tls.wrap_socket(plain, server_hostname=host)
        self._socket.sendall(request)
        (size,) = struct.unpack(">i", self._read(4))
        return self._read(size)

    def _read(self, count: int) -> bytes:
        assert self._socket is not None
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data)


def _text(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


def _header(api: int, version: int) -> bytes:
    correlation_id = 0
    return struct.pack(">hhi", api, version, correlation_id) + _text("raw")
