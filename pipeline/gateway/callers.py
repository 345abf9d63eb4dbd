"""Who calls: the API key of a request, and what it is for.

An image key sends images and fetches cut-outs.  Consent, history, erasure and keys are for the
account's owner alone: an image key, which many programs hold, cannot touch them.
"""

from collections.abc import Callable
from datetime import date, datetime
from http import HTTPStatus
from typing import Protocol

from starlette.requests import Request

from erasestream.pipeline.gateway.problems import HttpCode, problem, try_later
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.credentials import CredentialKind, CredentialSet
from erasestream.topics.credentials.table import Credential

KEY_HEADER = "x-api-key"


class ApiKeys(Protocol):
    """The keys of a lane."""

    def authenticate(self, text: str, now: datetime, /) -> Credential | None:
        """Return the valid key that a caller presents.  Raises `Unavailable`."""


class Callers:
    """Finds the API key of a request.  `note_use` takes each first use on a day."""

    def __init__(
        self, keys: ApiKeys, *, now: WallClock, note_use: Callable[[str, date], None]
    ) -> None:
        self._keys = keys
        self._now = now
        self._note_use = note_use

    def for_images(self, request: Request) -> CredentialSet:
        """Return the key of a request that sends or fetches images; keys of both kinds may.

        Raises `Problem` (missing_api_key, invalid_api_key, unavailable).
        """
        return self._credential(request)

    def for_owner(self, request: Request) -> CredentialSet:
        """Return the key of a request about consent, history, erasure or keys.

        Raises `Problem` as `for_images`, and forbidden for the key of images.
        """
        credential = self._credential(request)
        if credential.kind is not CredentialKind.OWNER:
            raise problem(HTTPStatus.FORBIDDEN, HttpCode.FORBIDDEN)
        return credential

    def _credential(self, request: Request) -> CredentialSet:
        text = request.headers.get(KEY_HEADER, "").strip()
        if not text:
            raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.MISSING_KEY)
        now = self._now()
        try:
            credential = self._keys.authenticate(text, now)
        except Unavailable:
            raise try_later() from None
        if credential is None:
            raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.INVALID_KEY)
        if credential.used_on != now.date():
            self._note_use(credential.state.key_id, now.date())
        return credential.state
