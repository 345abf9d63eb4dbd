"""The listening server: uvicorn in the gateway's event loop.

* A connection whose request does not arrive within `HEAD_TIMEOUT_S` is closed, as is an idle one,
  and one whose handshake takes longer.
* A client takes its answer within `ANSWER_TIMEOUT_S`, to the last byte, or gets no more of it.
* There is room for so many connections, in total and from each address (`accepting.py`).
* At the end, no connection is accepted any more, and requests in flight have `CLOSE_S`.
* Nothing of a request is logged, and nothing of an answer.
"""

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from erasestream.pipeline.gateway.accepting import (
    Acceptor,
    ConnectionLimits,
    ConnectionRoom,
    ServedProtocol,
    Timeouts,
    open_files,
)
from erasestream.pipeline.gateway.core import CLOSE_S
from erasestream.pipeline.gateway.paced_answers import PIECE_BYTES
from erasestream.pipeline.gateway.tls_context import ServerTls
from erasestream.schemas.errors import Refused

HEAD_TIMEOUT_S = 20.0
"""A connection is without a request for at most this time, and at least for half of it."""
ANSWER_TIMEOUT_S = 120.0
"""The largest answers need 5 Mbit/s."""
MAX_HEAD_BYTES = 32_768
BACKLOG = 1024
LIMITS = ConnectionLimits(most=1000, of_address=256)


class _Look(NamedTuple):
    """State of a connection at one look: its last request, and how far that is."""

    cycle: RequestResponseCycle | None
    is_idle: bool
    is_answering: bool


class _Protocol(H11Protocol, ServedProtocol):
    """HTTP whose connections are closed while no request is under way."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.lost: asyncio.Future[None] = self.loop.create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=PIECE_BYTES)
        self.loop.call_later(HEAD_TIMEOUT_S / 2, self._watch, self._look(), 0.0)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set_result(None)

    def timeout_keep_alive_handler(self) -> None:
        """Leave idle connections to `_watch`: uvicorn counts from when we have written all."""

    def _watch(self, seen: _Look, answering_s: float) -> None:
        """Close the connection if no request was under way since the last look.

        `answering_s`: for how long the answer to the request of the last look had been taken.
        """
        if self.transport.is_closing():  # what is left of an answer has its time there
            return
        interval_s = HEAD_TIMEOUT_S / 2
        look = self._look()
        answering_s = answering_s + interval_s if look == seen and look.is_answering else 0.0
        if (look.is_idle and look == seen) or answering_s > ANSWER_TIMEOUT_S:
            self.transport.abort()
        else:
            self.loop.call_later(interval_s, self._watch, look, answering_s)

    def _look(self) -> _Look:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first
        if cycle is None:
            return _Look(None, is_idle=True, is_answering=False)
        is_answering = cycle.response_started and not (cycle.response_complete and self._is_taken())
        return _Look(cycle, cycle.response_complete and not is_answering, is_answering)

    def _is_taken(self) -> bool:
        """Return whether the client's system has acknowledged everything that was sent.

        While it has not, our own buffers may have more; once it has, they are empty.
        """
        connection = self.transport.get_extra_info("socket")
        unacknowledged = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(unacknowledged, sys.byteorder) == 0


class HttpsServer:
    """Listens from its construction on, serves from `serve` on."""

    def __init__(
        self, host: str, port: int, tls: ServerTls, *, limits: ConnectionLimits = LIMITS
    ) -> None:
        """Listen.  Raises `Refused` if the address is taken."""
        try:
            self._socket = socket.create_server((host, port), backlog=BACKLOG)
        except OSError as error:
            raise Refused(f"gateway: {host}:{port}: {error.strerror}") from error
        # Connections inherit it: the body of an answer must not wait for the client's
        # acknowledgement of its head.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self._tls = tls
        self._room = ConnectionRoom(limits, open_files())
        self._server: uvicorn.Server | None = None
        self._is_stopped = False

    async def serve(self, app: ASGIApp, *, give_up: Callable[[], None]) -> None:
        """Serve until `stop`.  `give_up` ends the requests that are left after `CLOSE_S`."""
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_graceful_shutdown=int(CLOSE_S) + 2,
        )
        self._server = _Server(config, give_up, self._acceptor)
        if not self._is_stopped:
            await self._server.serve(sockets=[self._socket])

    def _acceptor(self, protocol: Callable[[], _Protocol]) -> Acceptor:
        return Acceptor(
            self._socket,
            room=self._room,
            context=self._tls.context,
            protocol=protocol,
            timeouts=Timeouts(handshake_s=HEAD_TIMEOUT_S, last_bytes_s=ANSWER_TIMEOUT_S),
        )

    @property
    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None and self._server.started

    def stop(self) -> None:
        """End `serve`, also one that has not begun yet; from any thread."""
        self._is_stopped = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        give_up: Callable[[], None],
        acceptor: Callable[[Callable[[], _Protocol]], Acceptor],
    ) -> None:
        super().__init__(config)
        self._give_up = give_up
        self._acceptor = acceptor

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Accept connections ourselves: uvicorn's way has no bounds for them."""
        self.servers = []
        self._accepting = asyncio.create_task(self._acceptor(self._protocol).run())
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Raise the error that ended the accepting of connections, if one has."""
        if self._accepting.done():
            self._accepting.result()
        return await super().on_tick(counter)

    def _protocol(self) -> _Protocol:
        return _Protocol(self.config, self.server_state, {})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End once no request is in flight; idle connections are dropped."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        waiting = asyncio.create_task(self._exit_when_idle())
        await super().shutdown(sockets=sockets)
        await waiting

    async def _exit_when_idle(self) -> None:
        if requests := list(self.server_state.tasks):
            await asyncio.wait(requests, timeout=CLOSE_S)
            self._give_up()
            await asyncio.wait(requests, timeout=1)
        self.force_exit = True
