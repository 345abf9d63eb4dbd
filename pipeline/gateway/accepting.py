"""Accept connections while there is room for them: in total, and from each address.

* A connection counts from its acceptance on, so that one without a handshake counts as well.
* One without room is closed at once, and costs no handshake.
* A network of IPv6 (/64), which one customer has as a whole, counts as an address.
"""

import asyncio
import ipaddress
import resource
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from erasestream.pipeline.runtime.retry import PausedAttempts

RETRY_S = 0.1
"""Pause after a connection that could not be accepted: no descriptor was left, say."""
_OF_ONE_CUSTOMER = 64
"""Bits of the network of IPv6 that one customer has."""


class ConnectionLimits(NamedTuple):
    """Open connections of a server."""

    most: int
    of_address: int


class Timeouts(NamedTuple):
    """Seconds."""

    handshake_s: float
    last_bytes_s: float
    """For what is still to be sent when a connection is closed."""


class ServedProtocol(asyncio.Protocol):
    """The protocol of one connection; `lost` is done once it has ended."""

    lost: asyncio.Future[None]


class ConnectionRoom:
    """Counts open connections.  For one event loop."""

    def __init__(self, limits: ConnectionLimits, files: int) -> None:
        """Leave half of the `files` that may be open to everything else."""
        self._limits = limits._replace(most=min(limits.most, files // 2))
        self._open = Counter[str]()
        self._total = 0

    def has(self, network: str) -> bool:
        """Return whether a network may open another connection."""
        most, of_address = self._limits
        return self._total < most and self._open[network] < of_address

    def take(self, network: str) -> None:
        """Count a connection until `give_back`."""
        self._open[network] += 1
        self._total += 1

    def give_back(self, network: str) -> None:
        """Count a connection no more."""
        self._total -= 1
        self._open[network] -= 1
        if not self._open[network]:
            del self._open[network]


def open_files() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def network_of(address: str) -> str:
    """Return what counts as one address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, _OF_ONE_CUSTOMER), strict=False))


class Acceptor:
    """Accepts the connections of a listening socket, and makes TLS of each."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        room: ConnectionRoom,
        context: ssl.SSLContext,
        protocol: Callable[[], ServedProtocol],
        timeouts: Timeouts,
    ) -> None:
        listener.settimeout(0)
        self._listener = listener
        self._room = room
        self._context = context
        self._protocol = protocol
        self._timeouts = timeouts
        self._serving = set[asyncio.Task[None]]()

    async def run(self) -> None:
        """Accept until cancelled; established connections go on, handshakes end."""
        try:
            while True:
                await self._accept()
                # A flood of connections, refused ones as well, must not keep the loop from all
                # else: while some wait, accepting one does not give it a turn.
                await asyncio.sleep(0)
        finally:
            for each in list(self._serving):  # of established ones, this only counts
                each.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        async for _ in PausedAttempts(RETRY_S):
            with suppress(OSError):  # the client has left, or no descriptor is left
                connection, address = await loop.sock_accept(self._listener)
                break
        network = network_of(address[0])
        if not self._room.has(network):
            connection.close()
            return
        self._room.take(network)
        serving = asyncio.create_task(self._serve(connection))
        self._serving.add(serving)
        serving.add_done_callback(partial(self._end, network))

    def _end(self, network: str, serving: asyncio.Task[None]) -> None:
        self._serving.discard(serving)
        self._room.give_back(network)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # errors of TLS and timeouts as well
            _, protocol = await loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._timeouts.handshake_s,
                ssl_shutdown_timeout=self._timeouts.last_bytes_s,
            )
            await asyncio.wait([protocol.lost])
