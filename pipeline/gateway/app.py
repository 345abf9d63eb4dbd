"""The application: all adapters behind one door.

Every answer has the id of its request, and headers that demand TLS and forbid to store it.  An
error is written by the adapter whose path it is.
"""

import secrets
from collections.abc import Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erasestream.pipeline.gateway.adapter import Adapter
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.paced_answers import PacedAnswers
from erasestream.pipeline.gateway.problems import HttpCode, Problem, of_error, problem
from erasestream.schemas.errors import ErasestreamError

HEADERS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
REQUEST_ID = "X-Request-Id"


def application(adapters: Sequence[Adapter], memory: MemoryBudget) -> ASGIApp:
    """Return the application.  The first adapter answers for paths that belong to none.

    Answers take room in `memory` until their clients have them.
    """

    def answer(request: Request, found: Problem) -> Response:
        path = request.url.path
        owners = [each for each in adapters if path.startswith(each.prefix)]
        owner = max(owners, key=lambda each: len(each.prefix), default=adapters[0])
        return owner.render(found, request.state.request_id)

    async def handle(request: Request, error: Exception) -> Response:
        match error:
            case Problem():
                return answer(request, error)
            case ErasestreamError():
                return answer(request, of_error(error))
            case HTTPException(status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers=headers):
                refusal = problem(HTTPStatus.METHOD_NOT_ALLOWED, HttpCode.WRONG_METHOD)
                refusal.headers = dict(headers or {})
                return answer(request, refusal)
            case HTTPException():
                return answer(request, problem(HTTPStatus.NOT_FOUND, HttpCode.NO_ROUTE))
            case ClientDisconnect():
                return Response(status_code=HTTPStatus.BAD_REQUEST)  # to a closed connection
        internal = problem(HTTPStatus.INTERNAL_SERVER_ERROR, HttpCode.INTERNAL)
        return answer(request, internal)

    kinds = (Problem, ErasestreamError, HTTPException, ClientDisconnect, Exception)
    app = Starlette(
        routes=[route for each in adapters for route in each.routes],
        exception_handlers=dict.fromkeys(kinds, handle),
    )
    app.router.redirect_slashes = False
    return PacedAnswers(_WithHeaders(app), memory)


class _WithHeaders:
    """Gives each request an id, and each answer the common headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(16)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**state.get("headers", {}), **HEADERS, REQUEST_ID: request_id})
            await send(message)

        await self._app(scope, receive, send_with_headers)
