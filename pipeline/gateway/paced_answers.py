"""Answers are handed over as fast as their clients take them.

A large answer is sent in pieces, each once the client has taken most of those before.  So a request
is over only when its answer has left, and the bytes that have not count as memory until then.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erasestream.pipeline.gateway.memory_budget import MemoryBudget, Share

PIECE_BYTES = 65_536


class PacedAnswers:
    """Sends the answers of an application in pieces."""

    def __init__(self, app: ASGIApp, memory: MemoryBudget) -> None:
        self._app = app
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= PIECE_BYTES:
                await send(message)
                return
            with Share(self._memory, len(body)):
                for begin in range(0, len(body), PIECE_BYTES):
                    end = begin + PIECE_BYTES
                    has_more = end < len(body) or message.get("more_body", False)
                    piece = {"body": bytes(body[begin:end]), "more_body": has_more}
                    await send({**message, **piece})

        await self._app(scope, receive, send_in_pieces)
