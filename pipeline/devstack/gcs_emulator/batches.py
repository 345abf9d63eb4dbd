"""Batches: up to 100 deletions in one request, each with an answer of its own.

    POST /batch/storage/v1    multipart/mixed; each part is a request, which begins at its method

Each part is served as a request of its own would be, under the identity of the batch, and meets the
faults that are switched on.  Answers are in the order of their parts, and have their ids.  Parts
that the pipeline does not send are refused: those that are no deletions, and those with a token.
"""

import asyncio
import re
import secrets
from http import HTTPStatus
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message

from erasestream.schemas.errors import InvalidInput

PATH = "/batch/storage/v1"
MAX_PARTS = 100
MAX_BATCH_BYTES = 10_000_000
"""Both as in Cloud Storage."""

_CONTENT_TYPE = re.compile(r'multipart/mixed;\s*boundary="?([^";\s]{1,70})"?')
_ID = re.compile(rb"(?im)^content-id:[ \t]*<([!-;=?-~]{1,200})>[ \t]*$")
_REQUEST = re.compile(rb"DELETE (?:https://[^/\s]+)?(/storage/v1/b/[^\s?]+)(?:\?(\S*))? HTTP/1\.1")


class Part(NamedTuple):
    """A deletion."""

    id: bytes
    path: bytes
    query: bytes


class BatchApi:
    """The endpoint of batches; `app` serves their parts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def serve(self, request: Request) -> Response:
        """Serve all parts.  Raises `InvalidInput` if one cannot be read, and serves none."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BATCH_BYTES:
                raise InvalidInput("the batch is too large")
        parts = parse_batch(request.headers.get("content-type", ""), bytes(body))
        answers = await asyncio.gather(*(self._answer(request, part) for part in parts))
        boundary = f"batch_{secrets.token_hex(16)}"
        head = f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
        content = b"".join(head + answer + b"\r\n" for answer in answers)
        return Response(
            content + f"--{boundary}--\r\n".encode(),
            media_type=f"multipart/mixed; boundary={boundary}",
        )

    async def _answer(self, request: Request, part: Part) -> bytes:
        answer = _Answer(request)
        scope = {
            **request.scope,
            "method": "DELETE",
            "path": part.path.decode("latin-1"),
            "raw_path": part.path,
            "query_string": part.query,
            "headers": [],
            "path_params": {},
            "state": {"role": request.state.role},
        }
        await self._app(scope, answer.receive, answer.send)
        label = b"Content-ID: <response-" + part.id + b">\r\n" if part.id else b""
        return label + b"\r\n" + answer.raw


class _Answer:
    """Both directions of a part: no body, and an answer that is collected."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_received = False
        self.raw = b""

    async def receive(self) -> Message:
        if self._is_received:
            return await self._request.receive()  # that the client is gone
        self._is_received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status = HTTPStatus(message["status"])
            self.raw = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
            for name, value in message["headers"]:
                self.raw += name + b": " + value + b"\r\n"
            self.raw += b"\r\n"
        else:
            self.raw += message.get("body", b"")


def parse_batch(content_type: str, body: bytes) -> list[Part]:
    """Return the parts of a batch.  Lines end as in HTTP, or as the client's mail library has it.

    Raises `InvalidInput` for anything that is not a whole batch of deletions.
    """
    match = _CONTENT_TYPE.fullmatch(content_type.strip())
    if match is None:
        raise InvalidInput("content-type of a batch")
    text = b"\n" + body.replace(b"\r\n", b"\n")
    _, *parts = text.split(b"\n--" + match[1].encode())
    if not parts or not parts[-1].startswith(b"--"):
        raise InvalidInput("the batch was cut off")
    if not 1 <= len(parts) - 1 <= MAX_PARTS:
        raise InvalidInput("number of parts of a batch")
    return [_part(part) for part in parts[:-1]]


def _part(part: bytes) -> Part:
    head, _, request = part.partition(b"\n\n")
    line, _, headers = request.partition(b"\n")
    match = _REQUEST.fullmatch(line.strip())
    if b"application/http" not in head.lower() or match is None:
        raise InvalidInput("part of a batch")
    if re.search(rb"(?im)^authorization:", headers):
        raise InvalidInput("a part of a batch has no identity of its own")
    found = _ID.search(head)
    return Part(found[1] if found else b"", match[1], match[2] or b"")
