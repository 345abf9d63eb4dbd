"""Try it: `POST /v2` for a signed-in owner, who has a session in place of a key."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from erasestream.pipeline.gateway.account_page.door import (
    CSRF_HEADER,
    Door,
    check_origin,
    check_token,
)
from erasestream.pipeline.gateway.adapter import Services
from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.routes.v2 import V2Routes, render
from erasestream.schemas.events.credentials import CredentialSet


def try_it(services: Services, door: Door) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler."""
    routes = V2Routes(replace(services, callers=_SessionCallers(door)))

    async def handle(request: Request) -> Response:
        try:
            return await routes.cut_out(request)
        except Problem as error:  # for the page's script, not for a person
            return render(error, request.state.request_id)

    return handle


class _SessionCallers(Callers):
    """Finds the key of a request by its session."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def _credential(self, request: Request) -> CredentialSet:
        visitor = self._door.visitor(request)
        check_origin(request)
        check_token(visitor, request.headers.get(CSRF_HEADER, ""))
        return visitor.credential
