"""The door of the page: whose request this is, and whether the owner's own page has made it."""

import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from starlette.requests import Request

from erasestream.pipeline.gateway.account_page.session import COOKIE, Session, Sessions
from erasestream.pipeline.gateway.account_page.sign_in import Owner, SignIn
from erasestream.pipeline.gateway.callers import KEY_HEADER, Callers
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.problems import HttpCode, problem
from erasestream.pipeline.gateway.request_body import BodyRules, memory_for, read_body
from erasestream.schemas.events.credentials import CredentialSet

FORM = BodyRules(max_image_bytes=0, file_fields=(), base64_fields=())
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


class Visitor(NamedTuple):
    """A signed-in owner, and the key that stands for them."""

    session: Session
    credential: CredentialSet

    @property
    def owner(self) -> Owner:
        """The owner."""
        return self.session.owner


class Door:
    """Lets owners in."""

    def __init__(
        self, *, sign_in: SignIn, sessions: Sessions, callers: Callers, memory: MemoryBudget
    ) -> None:
        self.sign_in = sign_in
        self.sessions = sessions
        self._callers = callers
        self._memory = memory

    def visitor(self, request: Request) -> Visitor:
        """Return who is signed in.

        Raises `Problem`: session_ended, forbidden for a key of images in the header, unavailable.
        """
        session = self.sessions.verify(request.cookies.get(COOKIE, ""))
        if session is None:
            if KEY_HEADER in request.headers:
                self._callers.for_owner(request)
            raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.SESSION_ENDED)
        return Visitor(session, self.sign_in.credential(session.owner))

    async def form(self, request: Request) -> tuple[Visitor, Mapping[str, str]]:
        """Return who has sent a form, and its fields.  Raises `Problem` (form_refused), too."""
        visitor = self.visitor(request)
        check_origin(request)
        fields = await self.read_form(request)
        check_token(visitor, fields.get(CSRF_FIELD, ""))
        return visitor, fields

    async def read_form(self, request: Request) -> Mapping[str, str]:
        """Return the fields of a form.  Raises `Problem`."""
        with self._memory.admit(memory_for(request, FORM), None):
            body = await read_body(request, FORM)
            return {name: str(value) for name, value in body.values.items()}


def check_origin(request: Request) -> None:
    """Raise `Problem` (form_refused) if a browser names another origin."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"https://{request.headers.get('host', '')}":
        raise problem(HTTPStatus.FORBIDDEN, HttpCode.FORM_REFUSED)


def check_token(visitor: Visitor, token: str) -> None:
    """Raise `Problem` (form_refused) unless this is the session's token."""
    if not hmac.compare_digest(token.encode(errors="replace"), visitor.session.csrf.encode()):
        raise problem(HTTPStatus.FORBIDDEN, HttpCode.FORM_REFUSED)
