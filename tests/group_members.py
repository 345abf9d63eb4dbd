"""Make static members leave their groups, as Kafka's own admin tool can and librdkafka cannot.

A static member does not leave when its consumer closes: the group waits for its session to expire
(10 s) before the next member gets any partitions.  Between tests, that is all there is to wait for.
"""

import socket
import ssl
import struct
from collections.abc import Iterable

_LEAVE_GROUP, _VERSION = 13, 3
"""The last version of LeaveGroup with several members and without tagged fields."""
_TIMEOUT_S = 30.0
_KNOWN = {0, 25}
"""Error codes after which the member is gone: none, and UNKNOWN_MEMBER_ID."""


def leave_group(address: str, tls: ssl.SSLContext, group: str, instances: Iterable[str]) -> None:
    """Remove these static members from a group, asking its coordinator, the broker at `address`."""
    members = [_text("") + _text(instance) for instance in instances]
    body = _text(group) + struct.pack(">i", len(members)) + b"".join(members)
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), _TIMEOUT_S) as plain,
        tls.wrap_socket(plain, server_hostname=host) as sock,
    ):
        request = struct.pack(">hhi", _LEAVE_GROUP, _VERSION, 1) + _text("tests") + body
        sock.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(sock, 4))
        answer = _read(sock, size)
    (error,) = struct.unpack_from(">h", answer, 8)  # behind the correlation id and throttle time
    assert error in _KNOWN, f"LeaveGroup: error {error}"


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _read(sock: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "the broker closed the connection"
        data += piece
    return data
