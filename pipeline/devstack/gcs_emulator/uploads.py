"""Uploads into a local bucket: in one request, or in a session of several.

An object appears when its upload ended as declared, with the checksums declared; an upload
that is cut off, lies about its bytes or loses its race leaves nothing.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from erasestream.pipeline.devstack.gcs_emulator.multipart import (
    ContentRange,
    Declared,
    RelatedParser,
    declared,
)
from erasestream.pipeline.devstack.gcs_emulator.object_files import Incoming, Preconditions
from erasestream.pipeline.devstack.gcs_emulator.request_context import (
    Bucket,
    Call,
    body,
    error,
    resource,
    understand,
)
from erasestream.schemas.errors import InvalidInput, NotFound
from erasestream.sinks.buckets.access_policy import Action

MAX_SESSIONS = 64
MAX_JSON_BYTES = 65_536
HASH_NAMES = {"crc32c": "crc32c", "md5": "md5Hash"}


class Session(NamedTuple):
    """A resumable upload that began; only the role that began it may go on with it."""

    call: Call
    declared: Declared
    conditions: Preconditions
    incoming: Incoming


class Uploads:
    """The endpoints below `/upload`.  Sessions live in memory and die with the server."""

    def __init__(self, buckets: Mapping[str, Bucket], new_id: Callable[[], str]) -> None:
        self._buckets = buckets
        self._new_id = new_id
        self._sessions: dict[str, Session] = {}

    async def create(self, request: Request) -> Response:
        """An upload in one request, or the beginning of a session."""
        call = understand(request, self._buckets)
        match call.query.get("uploadType"):
            case "multipart":
                return await self._multipart(call)
            case "resumable":
                return await self._begin(call)
            case _:
                raise InvalidInput("uploadType must be multipart or resumable")

    async def _multipart(self, call: Call) -> Response:
        parser = RelatedParser(call.request.headers.get("content-type", ""))
        incoming = call.bucket.objects.incoming()
        conditions = None
        try:
            async for chunk in body(call.request):
                media = parser.feed(chunk)
                if conditions is None and parser.has_metadata:
                    conditions = _conditions(call, _declared(call, parser))
                incoming.write(media)
            incoming.write(parser.finish())
            upload = _declared(call, parser)
            return await self._publish(call, upload, _conditions(call, upload), incoming)
        finally:
            incoming.close()

    async def _begin(self, call: Call) -> Response:
        document = b""
        async for chunk in body(call.request):
            document += chunk
            if len(document) > MAX_JSON_BYTES:
                raise InvalidInput("metadata is too long")
        try:
            members = json.loads(document or b"{}")
        except ValueError:
            raise InvalidInput("metadata is not JSON") from None
        kind = call.request.headers.get("x-upload-content-type")
        upload = declared(members, kind, call.query.get("name"))
        conditions = _conditions(call, upload)
        while len(self._sessions) >= MAX_SESSIONS:
            self._end(next(iter(self._sessions)))
        key = self._new_id()
        self._sessions[key] = Session(call, upload, conditions, call.bucket.objects.incoming())
        url = call.request.url.replace(query=f"uploadType=resumable&upload_id={key}")
        return Response(status_code=200, headers={"location": str(url)})

    async def resume(self, request: Request) -> Response:
        """The next bytes of a session, or the question how many have come."""
        key, session = self._session(understand(request, self._buckets))
        asked = ContentRange.parse(request.headers.get("content-range", "bytes */*"))
        incoming = session.incoming
        if asked.start is not None:
            if asked.start != incoming.size:
                raise InvalidInput("these are not the next bytes of the session")
            async for chunk in body(request):
                incoming.write(chunk)
        if asked.total is None or incoming.size < asked.total:
            seen = {"range": f"bytes=0-{incoming.size - 1}"} if incoming.size else {}
            return Response(status_code=308, headers=seen)
        del self._sessions[key]
        try:
            if incoming.size != asked.total:
                raise InvalidInput("more bytes than declared")
            session.declared.checksums.update(_hash_header(request))
            return await self._publish(session.call, session.declared, session.conditions, incoming)
        finally:
            incoming.close()

    async def cancel(self, request: Request) -> Response:
        """End a session; nothing of it stays."""
        key, _ = self._session(understand(request, self._buckets))
        self._end(key)
        return error(499, "clientClosedRequest", "The session is cancelled.")

    def _session(self, call: Call) -> tuple[str, Session]:
        key = call.query.get("upload_id", "")
        session = self._sessions.get(key)
        if session is None or (session.call.role, session.call.bucket) != (call.role, call.bucket):
            raise NotFound
        return key, session

    def _end(self, key: str) -> None:
        self._sessions.pop(key).incoming.close()

    async def _publish(
        self, call: Call, upload: Declared, conditions: Preconditions, incoming: Incoming
    ) -> Response:
        actual = incoming.checksums()
        if any(actual[kind] != value for kind, value in upload.checksums.items()):
            raise InvalidInput("the bytes do not have the checksum that was declared")
        metadata = await run_in_threadpool(
            call.bucket.objects.publish, incoming, upload.name, upload.content_type, conditions
        )
        return JSONResponse(resource(call.bucket.name, metadata))


def _declared(call: Call, parser: RelatedParser) -> Declared:
    return declared(parser.members, parser.content_type, call.query.get("name"))


def _conditions(call: Call, upload: Declared) -> Preconditions:
    """Raises `Refused` if the role may not create an object of this name."""
    call.demand(Action.CREATE, upload.name)
    return Preconditions(call.generation, call.may(Action.DELETE, upload.name))


def _hash_header(request: Request) -> dict[str, str]:
    """The checksums of an `x-goog-hash` header, by the names of the JSON API."""
    pairs = (p.strip().partition("=") for p in request.headers.get("x-goog-hash", "").split(","))
    return {HASH_NAMES[kind]: value for kind, _, value in pairs if kind in HASH_NAMES}
