"""The listening server: uvicorn in the gateway's event loop.

* A connection whose request does not arrive within `HEAD_TIMEOUT_S` is closed, as is an idle one.
* A client takes its answer within `ANSWER_TIMEOUT_S`, or gets no more of it.
* At the end, no connection is accepted any more, and requests in flight have `CLOSE_S`.
* Nothing of a request is logged, and nothing of an answer.
"""

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

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


class _Protocol(H11Protocol):
    """HTTP whose connections are closed while no request is under way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=PIECE_BYTES)
        self.loop.call_later(HEAD_TIMEOUT_S / 2, self._watch, self.cycle, 0.0)

    def _watch(self, seen: object, answering_s: float) -> None:
        """Close the connection if no request was under way since the last look.

        `answering_s`: for how long the answer to the request of the last look had been taken.
        """
        if self.transport.is_closing():
            return
        interval_s = HEAD_TIMEOUT_S / 2
        cycle: RequestResponseCycle | None = self.cycle  # None before the first
        is_idle = cycle is None or cycle.response_complete
        is_answering = cycle is seen and cycle is not None and cycle.response_started
        answering_s = answering_s + interval_s if is_answering else 0.0
        if (is_idle and cycle is seen) or answering_s > ANSWER_TIMEOUT_S:
            self.transport.abort()
        else:
            self.loop.call_later(interval_s, self._watch, cycle, answering_s)


class HttpsServer:
    """Listens from its construction on, serves from `serve` on."""

    def __init__(self, host: str, port: int, tls: ServerTls) -> None:
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
        self._server: uvicorn.Server | None = None

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
            timeout_keep_alive=int(HEAD_TIMEOUT_S),
            timeout_graceful_shutdown=int(CLOSE_S) + 2,
            ssl_context_factory=lambda *_: self._tls.context,
        )
        self._server = _Server(config, give_up)
        await self._server.serve(sockets=[self._socket])

    @property
    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None and self._server.started

    def stop(self) -> None:
        """End `serve`; from any thread."""
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, give_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._give_up = give_up

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End once no request is in flight; idle connections are dropped."""
        waiting = asyncio.create_task(self._exit_when_idle())
        await super().shutdown(sockets=sockets)
        await waiting

    async def _exit_when_idle(self) -> None:
        if requests := list(self.server_state.tasks):
            await asyncio.wait(requests, timeout=CLOSE_S)
            self._give_up()
            await asyncio.wait(requests, timeout=1)
        self.force_exit = True
