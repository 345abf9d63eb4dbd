"""Sign-in of owners, by default with an owner's API key.

`SignIn` is the seam for a company's own identity provider (OIDC): it turns what a person presents
into an owner, and is asked again with each request whether that owner may still come in.
"""

from http import HTTPStatus
from typing import NamedTuple, Protocol

from erasestream.pipeline.gateway.problems import HttpCode, problem, try_later
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.credentials import CredentialKind, CredentialSet
from erasestream.schemas.ids import AccountId
from erasestream.topics.credentials.view import CredentialView


class Owner(NamedTuple):
    """A person who may decide for an account, and by what the person was recognised."""

    account: AccountId
    proof: str
    """Id of the owner's key; no secret."""


class SignIn(Protocol):
    """Recognises owners."""

    def identify(self, presented: str) -> Owner:
        """Return the owner.  Raises `Problem` (invalid_api_key, forbidden, unavailable)."""

    def credential(self, owner: Owner) -> CredentialSet:
        """Return the key that stands for the owner.

        Raises `Problem` (session_ended) once the owner may no longer come in, and unavailable.
        """


class KeySignIn:
    """Signs owners in by their API keys; a revoked or expired key ends its sessions."""

    def __init__(self, keys: CredentialView, *, now: WallClock) -> None:
        self._keys = keys
        self._now = now

    def identify(self, presented: str) -> Owner:
        """Return the owner of a key."""
        try:
            found = self._keys.authenticate(presented.strip(), self._now())
        except Unavailable:
            raise try_later() from None
        if found is None:
            raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.INVALID_KEY)
        if found.state.kind is not CredentialKind.OWNER:
            raise problem(HTTPStatus.FORBIDDEN, HttpCode.FORBIDDEN)
        return Owner(found.state.account, found.state.key_id)

    def credential(self, owner: Owner) -> CredentialSet:
        """Return the key that the owner has signed in with."""
        if not self._keys.is_fresh:
            raise try_later()
        found = self._keys.table.get(owner.proof)
        if (
            found is None
            or not found.is_valid(self._now())
            or (found.state.account, found.state.kind) != (owner.account, CredentialKind.OWNER)
        ):
            raise problem(HTTPStatus.UNAUTHORIZED, HttpCode.SESSION_ENDED)
        return found.state
