"""What every request to the bucket server passes: who asks, may they, is it understood.

* Nobody is anonymous: the bearer token names the role before anything else is looked at.
* What no rule of the bucket grants is denied.
* A parameter that this server does not know is refused, not ignored: no client can believe
  in a protection or a precondition that is not there.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erasestream.pipeline.devstack.gcs_emulator.object_files import Metadata, Objects
from erasestream.schemas.errors import (
    AlreadyExists,
    BucketAccessDenied,
    Code,
    ErasestreamError,
    InvalidInput,
    NotFound,
    Refused,
)
from erasestream.sinks.buckets.access_policy import Action, Rule, allows

MAX_OBJECT_BYTES = 100_000_000
"""Above every sealed object; a longer upload is refused."""

STATUS: tuple[tuple[type[ErasestreamError], int, str], ...] = (
    (NotFound, 404, "notFound"),
    (AlreadyExists, 412, "conditionNotMet"),
    (Refused, 403, "forbidden"),
    (InvalidInput, 400, "invalid"),
)
PARAMETERS = {
    "alt", "delimiter", "fields", "ifGenerationMatch", "maxResults", "name",
    "optionsRequestedPolicyVersion", "pageToken", "permissions", "prefix", "prettyPrint",
    "projection", "uploadType", "upload_id",
}  # fmt: skip


class Bucket(NamedTuple):
    """A bucket: what lies in it and who may do what."""

    name: str
    objects: Objects
    rules: tuple[Rule, ...]


class Call(NamedTuple):
    """An understood request of a known role to a bucket that exists."""

    request: Request
    role: str
    bucket: Bucket

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters, each of them known."""
        return self.request.query_params

    @property
    def object_name(self) -> str:
        """The object's name in the path."""
        return unquote(self.request.path_params["object"])

    @property
    def generation(self) -> int | None:
        """The generation that must match, if any.  Raises `InvalidInput`."""
        return whole_number(self.query.get("ifGenerationMatch"))

    def may(self, action: Action, name: str = "") -> bool:
        """Whether the role may do this."""
        return allows(self.bucket.rules, self.role, action, name)

    def demand(self, action: Action, name: str = "") -> None:
        """Raises `Refused` if the role may not do this."""
        if not self.may(action, name):
            raise BucketAccessDenied(f"{self.role} has no {action}")


def whole_number(text: str | None) -> int | None:
    """A parameter's number.  Raises `InvalidInput`."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput("a number is expected")
    return int(text)


def understand(request: Request, buckets: Mapping[str, Bucket]) -> Call:
    """Raises `InvalidInput` for unknown parameters, `NotFound` for an unknown bucket."""
    if unknown := set(request.query_params) - PARAMETERS:
        raise InvalidInput(f"parameter {min(unknown)[:40]}")
    name = unquote(request.path_params["bucket"])
    if name not in buckets:
        raise NotFound(code=Code.MISSING_BUCKET)
    return Call(request, request.state.role, buckets[name])


class Gate:
    """Every request has a role, or goes no further; paths stay as they were sent.

    An answer waits until the body was read, since a client reads no answer before it has
    sent all of it.
    """

    def __init__(self, app: ASGIApp, role_of: Callable[[str], str | None]) -> None:
        """`role_of` gives the role of a bearer token."""
        self._app = app
        self._role_of = role_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        role = self._role_of(token) if scheme == "Bearer" else None
        if role is None:
            refusal = error(401, "authError", "Anonymous or unknown caller.")
            await refusal(scope, exchange.receive, exchange.send)
            return
        # An object's name may hold an encoded slash: it must not become one of the path.
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        known = {**scope, "path": path, "state": {"role": role}}
        await self._app(known, exchange.receive, exchange.send)


class _Exchange:
    """A request's two directions, of which the second waits for the first."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._received = 0
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._complete = self._complete or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            while not self._complete and self._received <= MAX_OBJECT_BYTES:
                await self.receive()
        await self._send(message)


async def body(request: Request) -> AsyncIterator[bytes]:
    """The body, up to the limit of an object.

    Raises `ClientDisconnect` if it was cut off, `InvalidInput` if it is longer.
    """
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_OBJECT_BYTES:
            raise InvalidInput("the upload is too large")
        yield chunk


async def failure(_: Request, problem: Exception) -> Response:
    """The answer to a request that can not be served."""
    for kind, status, reason in STATUS:
        if isinstance(problem, kind):
            return error(status, reason, MESSAGES.get(problem.code, problem.sentence))
    raise problem


MESSAGES = {
    Code.MISSING_BUCKET: "The specified bucket does not exist.",
    Code.NOT_FOUND: "No such object.",
}


async def gone(_: Request, __: Exception) -> Response:
    """The client left in the middle of its upload; nobody reads this."""
    return error(400, "invalid", "The upload was cut off.")


def error(status: int, reason: str, message: str) -> Response:
    """An error as the JSON API writes it."""
    detail = {"domain": "global", "reason": reason, "message": message}
    content = {"error": {"code": status, "message": message, "errors": [detail]}}
    return JSONResponse(content, status_code=status)


def resource(bucket: str, metadata: Metadata) -> dict[str, str]:
    """An object's metadata as the JSON API writes it."""
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{metadata.name}/{metadata.generation}",
        "name": metadata.name,
        "bucket": bucket,
        "generation": str(metadata.generation),
        "metageneration": "1",
        "contentType": metadata.content_type,
        "size": str(metadata.size),
        "crc32c": metadata.crc32c,
        "md5Hash": metadata.md5,
        "storageClass": "STANDARD",
        "timeCreated": metadata.created,
        "updated": metadata.created,
        "etag": etag(metadata),
    }


def etag(metadata: Metadata) -> str:
    """Changes with every generation."""
    return f"g{metadata.generation}"


def hashes(metadata: Metadata) -> Iterator[str]:
    """The parts of an `x-goog-hash` header."""
    yield f"crc32c={metadata.crc32c}"
    yield f"md5={metadata.md5}"
