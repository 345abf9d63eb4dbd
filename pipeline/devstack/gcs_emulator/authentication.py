"""Bearer tokens of the bucket server: their files, and the check that every request passes.

* There is no anonymous access: the token determines the role before anything else is read.
* Tokens are looked up by their digest, so that timing reveals nothing about them.
"""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erasestream.pipeline.devstack.gcs_emulator.object_files import MAX_OBJECT_BYTES
from erasestream.pipeline.devstack.gcs_emulator.responses import error_response
from erasestream.schemas.errors import Refused
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.secret_file import MODES, is_exposed

TOKEN_SUFFIX = ".token"  # noqa: S105 (a file name, no password)


def issue_token(directory: Path, role: Role) -> Path:
    """Create a role's bearer token, readable by its owner only, and return its file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{role}{TOKEN_SUFFIX}"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
    return path


def load_tokens(directory: Path) -> Callable[[str], str | None]:
    """Return a lookup from token to role.  Raises `Refused` for a file that others can read."""
    roles: dict[bytes, str] = {}
    for path in directory.glob(f"*{TOKEN_SUFFIX}"):
        if is_exposed(path.stat()):
            raise Refused(f"{path.name} must be {MODES}")
        roles[_digest(path.read_text())] = path.stem
    return lambda token: roles.get(_digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class BearerAuthentication:
    """ASGI middleware that refuses requests without a known token.

    It also keeps paths as they were sent, and holds the response back until the request's body
    was received: a client reads no response before it has sent all of it.
    """

    def __init__(self, app: ASGIApp, role_of: Callable[[str], str | None]) -> None:
        """Wrap an application.  `role_of` returns the role of a bearer token."""
        self._app = app
        self._role_of = role_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        channel = _BodyFirstChannel(receive, send)
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        role = self._role_of(token) if scheme == "Bearer" else None
        if role is None:
            refusal = error_response(401, "authError", "Anonymous or unknown caller.")
            await refusal(scope, channel.receive, channel.send)
            return
        # An object's name may hold an encoded slash: it must not become one of the path.
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        authenticated = {**scope, "path": path, "state": {"role": role}}
        await self._app(authenticated, channel.receive, channel.send)


class _BodyFirstChannel:
    """Both directions of a request; the response is sent once the body was received."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._received = 0
        self._is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._is_complete = self._is_complete or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            while not self._is_complete and self._received <= MAX_OBJECT_BYTES:
                await self.receive()
        await self._send(message)
