"""Make static members leave their groups, as Kafka's own admin tool can and librdkafka cannot.

A static member does not leave when its consumer closes: the group waits for its session to expire
(10 s) before the next member gets any partitions.  Between tests, that is all there is to wait for.

One connection for all groups: a client of librdkafka for it after each test would take a tenth of
the suite's CPU.

Source: https://kafka.apache.org/documentation/#protocol, DescribeGroups version 4 and LeaveGroup
version 3, the last without tagged fields.
"""

import socket
import ssl
import struct
from collections.abc import Iterable

from erasestream.schemas.errors import Unavailable

_DESCRIBE_GROUPS, _DESCRIBE_VERSION = 15, 4
_LEAVE_GROUP, _LEAVE_VERSION = 13, 3
_TIMEOUT_S = 30.0
_GONE = {0, 25}
"""Error codes after which the member is gone: none, and UNKNOWN_MEMBER_ID."""
_NOT_LOADED = {14, 15, 16}
"""Error codes of a coordinator that is loading, or that is not there yet."""


def evict_static_members(address: str, tls: ssl.SSLContext, groups: Iterable[str]) -> None:
    """Remove all static members from the groups, asking their coordinator, the only broker.

    Raises `Unavailable` if the broker does not answer, or has not loaded the groups yet.
    """
    host, _, port = address.partition(":")
    try:
        with (
            socket.create_connection((host, int(port)), _TIMEOUT_S) as plain,
            tls.wrap_socket(plain, server_hostname=host) as sock,
        ):
            for group, instances in _static_members(sock, list(groups)).items():
                if instances:
                    _leave(sock, group, instances)
    except OSError as error:
        raise Unavailable("the broker does not answer") from error


def _static_members(sock: ssl.SSLSocket, groups: list[str]) -> dict[str, list[str]]:
    """Return the instances of each group's static members."""
    body = struct.pack(">i", len(groups)) + b"".join(map(_text, groups)) + b"\0"
    answer = _Answer(_ask(sock, _DESCRIBE_GROUPS, _DESCRIBE_VERSION, body))
    answer.number(">i")  # throttle time
    return dict(_group(answer) for _ in range(answer.number(">i")))


def _group(answer: "_Answer") -> tuple[str, list[str]]:
    error = answer.number(">h")
    group = answer.text()
    if error in _NOT_LOADED:
        raise Unavailable(f"group {group}: error {error}")
    assert error == 0, f"DescribeGroups {group}: error {error}"
    for _ in ("state", "protocol type", "protocol"):
        answer.text()
    instances = []
    for _ in range(answer.number(">i")):
        answer.text()  # member id
        instances.append(answer.text())
        for _ in ("client id", "host"):
            answer.text()
        for _ in ("metadata", "assignment"):
            answer.data(answer.number(">i"))
    answer.number(">i")  # authorized operations
    return group, [instance for instance in instances if instance]


def _leave(sock: ssl.SSLSocket, group: str, instances: list[str]) -> None:
    members = [_text("") + _text(instance) for instance in instances]
    body = _text(group) + struct.pack(">i", len(members)) + b"".join(members)
    answer = _Answer(_ask(sock, _LEAVE_GROUP, _LEAVE_VERSION, body))
    answer.number(">i")  # throttle time
    error = answer.number(">h")
    assert error in _GONE, f"LeaveGroup: error {error}"


class _Answer:
    """Reads the fields of a response in their order."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def data(self, size: int) -> bytes:
        """Read that many bytes."""
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def number(self, layout: str) -> int:
        """Read a number."""
        (number,) = struct.unpack(layout, self.data(struct.calcsize(layout)))
        return int(number)

    def text(self) -> str:
        """Read a text; null is empty."""
        return self.data(max(0, self.number(">h"))).decode()


def _ask(sock: ssl.SSLSocket, key: int, version: int, body: bytes) -> bytes:
    request = struct.pack(">hhi", key, version, 1) + _text("tests") + body
    sock.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _read(sock, 4))
    return _read(sock, size)[4:]  # behind the correlation id


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _read(sock: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionError("the broker closed the connection")
        data += piece
    return data
