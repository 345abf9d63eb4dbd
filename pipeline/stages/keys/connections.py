"""Open connections of the key service: who may have one more, and how long each may last.

Rules, all of them:

* At most `MAX_CONNECTIONS` at once; others wait in the kernel's queue.
* Before its handshake a connection is its address's, and ends after `HANDSHAKE_S`.  After it, the
  connection is its lane's, or its stage's, and ends after `LIFE_S`, whatever is sent meanwhile.
* One address, and one lane or stage, has at most half of all.  Its others are closed at once: they
  do not wait in front of the others' connections.
"""

import socket
import ssl
import threading
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass

from erasestream.schemas.clocks import Clock, Deadline

MAX_CONNECTIONS = 256
MAX_OF_ONE = MAX_CONNECTIONS // 2
HANDSHAKE_S = 5.0
LIFE_S = 30.0
POLL_S = 0.1


@dataclass
class _Connection:
    holder: Hashable
    end: Deadline


class Connections:
    """The open connections of one server.  Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._open: dict[ssl.SSLSocket, _Connection] = {}
        self._is_closed = False

    def admit(self, sock: ssl.SSLSocket, address: str) -> bool:
        """Wait for room, and return whether there is some for one more of this address."""
        holder = "address", address
        with self._changed:
            if not self._has_room_for(holder):
                return False
            while len(self._open) >= MAX_CONNECTIONS and not self._is_closed:
                self._changed.wait(POLL_S)
                self._end_overdue()
            self._open[sock] = _Connection(holder, Deadline(HANDSHAKE_S, self._clock))
            return not self._is_closed

    def prove(self, sock: ssl.SSLSocket, peer: str) -> bool:
        """Note whose a connection is; return whether that may have one more."""
        holder = "peer", peer
        with self._changed:
            if not self._has_room_for(holder):
                return False
            self._open[sock] = _Connection(holder, Deadline(LIFE_S, self._clock))
            return True

    def remove(self, sock: ssl.SSLSocket) -> None:
        """Forget a connection, before it is closed.  Idempotent."""
        with self._changed:
            self._open.pop(sock, None)
            self._changed.notify_all()

    def end_overdue(self) -> None:
        """End connections whose time is over: their threads find them closed by the client."""
        with self._changed:
            self._end_overdue()

    def close(self) -> None:
        """Admit no more connections."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _has_room_for(self, holder: Hashable) -> bool:
        return sum(each.holder == holder for each in self._open.values()) < MAX_OF_ONE

    def _end_overdue(self) -> None:
        for sock, connection in self._open.items():
            if connection.end.has_passed:
                with suppress(OSError):
                    # Not the method of the TLS socket, which would change it under its thread.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
