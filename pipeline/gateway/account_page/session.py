"""Sessions of signed-in owners, which any gateway of the lane can verify.  Pure.

* A session is a cookie that its browser alone holds: who, until when, and a MAC.  No gateway keeps
  any, so that a restart ends none and the memory of many costs nothing.
* It lives for a fixed time.  An owner's key that is revoked ends its sessions on every gateway.
* `__Host-`: the cookie is of this host alone, Secure, and sent to no other.  HttpOnly: no script
  reads it.  SameSite=Strict: no other site's page makes a browser send it.
* A token of each session, in each form, refuses requests that another page made (CSRF).
"""

import base64
import binascii
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from erasestream.pipeline.gateway.account_page.sign_in import Owner
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.ids import AccountId, is_account

COOKIE = "__Host-account"
KEY_BYTES = 32
_NONCE_BYTES = 16
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"


class Session(NamedTuple):
    """A signed-in owner."""

    owner: Owner
    csrf: str
    """Token that a form must bring."""


class Sessions:
    """Begins and verifies sessions under a key that all gateways of the lane share."""

    def __init__(
        self,
        key: bytes,
        *,
        lifetime: timedelta,
        now: WallClock,
        random: Callable[[int], bytes],
    ) -> None:
        self._key = key
        self._lifetime = lifetime
        self._now = now
        self._random = random

    def begin(self, owner: Owner) -> str:
        """Return the `Set-Cookie` header of a new session."""
        until = int((self._now() + self._lifetime).timestamp())
        payload = _text(
            json.dumps([*owner, until, self._random(_NONCE_BYTES).hex()], separators=(",", ":"))
        )
        value = f"{payload}.{self._mac(b'session', payload)}"
        return f"{COOKIE}={value}; Max-Age={int(self._lifetime.total_seconds())}; {_ATTRIBUTES}"

    def end(self) -> str:
        """Return the `Set-Cookie` header that makes a browser forget its session."""
        return f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"

    def verify(self, cookie: str) -> Session | None:
        """Return the session of a cookie's value; None if it is forged or has ended."""
        payload, _, mac = cookie.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(b"session", payload).encode()):
            return None
        try:
            account, proof, until, _nonce = json.loads(base64.urlsafe_b64decode(payload))
        except (ValueError, binascii.Error):
            return None
        if not is_account(account) or until <= self._now().timestamp():
            return None
        return Session(Owner(AccountId(account), proof), self._mac(b"csrf", payload))

    def _mac(self, purpose: bytes, payload: str) -> str:
        message = b"erasestream/v1/" + purpose + b"\0" + payload.encode()
        return hmac.digest(self._key, message, "sha256").hex()


def _text(payload: str) -> str:
    return base64.urlsafe_b64encode(payload.encode()).decode()
