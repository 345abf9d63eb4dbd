"""The part of Cloud Storage's JSON API that google-cloud-storage uses, and nothing beside it.

Multipart and resumable upload, media and metadata get, list, delete, bucket get, the IAM
policy and testIamPermissions: the requests of google-cloud-storage 3.17, read in its source.
Uniform access, public access prevention, no versions, no soft delete: fixed, and reported.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from erasestream.pipeline.devstack.gcs_emulator.listing import MAX_RESULTS, after, page
from erasestream.pipeline.devstack.gcs_emulator.object_files import CHUNK_BYTES
from erasestream.pipeline.devstack.gcs_emulator.request_context import (
    Bucket,
    Gate,
    error,
    etag,
    failure,
    gone,
    hashes,
    resource,
    understand,
    whole_number,
)
from erasestream.pipeline.devstack.gcs_emulator.uploads import Uploads
from erasestream.schemas.errors import ErasestreamError
from erasestream.sinks.buckets.access_policy import Action, permissions

ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
B = "/storage/v1/b/{bucket}"
O = "/storage/v1/b/{bucket}/o/{object}"  # noqa: E741 (the API's own name for it)
ACLS = (f"{B}/acl", f"{B}/defaultObjectAcl", f"{O}/acl")


def application(
    buckets: Mapping[str, Bucket],
    *,
    role_of: Callable[[str], str | None],
    new_id: Callable[[], str],
) -> ASGIApp:
    """The server's ASGI application.

    `role_of` gives the role of a bearer token; `new_id` unguessable ids for sessions.
    """
    api, uploads = _Api(buckets), Uploads(buckets, new_id)
    routes = [
        Route(f"/upload{B}/o", uploads.create, methods=["POST"]),
        Route(f"/upload{B}/o", uploads.resume, methods=["PUT"]),
        Route(f"/upload{B}/o", uploads.cancel, methods=["DELETE"]),
        Route(f"/download{O}", api.get, methods=["GET"]),
        Route(f"{B}/o", api.list, methods=["GET"]),
        Route(O, api.get, methods=["GET"]),
        Route(O, api.delete, methods=["DELETE"]),
        Route(B, api.configuration, methods=["GET"]),
        Route(f"{B}/iam", api.bindings, methods=["GET"]),
        Route(f"{B}/iam/testPermissions", api.test_permissions, methods=["GET"]),
        *(Route(path, _no_acl, methods=ANY) for path in ACLS),
        *(Route(f"{path}/{{entity}}", _no_acl, methods=ANY) for path in ACLS),
    ]
    handlers = {ErasestreamError: failure, ClientDisconnect: gone}
    return Gate(Starlette(routes=routes, exception_handlers=handlers), role_of)


async def _no_acl(_: Request) -> Response:
    return error(400, "invalid", "There are no ACLs: uniform bucket-level access is enabled.")


class _Api:
    def __init__(self, buckets: Mapping[str, Bucket]) -> None:
        self._buckets = buckets

    async def get(self, request: Request) -> Response:
        call = understand(request, self._buckets)
        call.demand(Action.READ, call.object_name)
        if call.query.get("alt") != "media":
            return JSONResponse(
                resource(call.bucket.name, call.bucket.objects.get(call.object_name))
            )
        metadata, file = await run_in_threadpool(call.bucket.objects.open, call.object_name)
        span = _range(request.headers.get("range"), metadata.size)
        if span is None:
            file.close()
            return error(416, "requestedRangeNotSatisfiable", "No such bytes.")
        start, end = span
        headers = {
            "content-length": str(end - start),
            "content-type": metadata.content_type,
            "etag": etag(metadata),
            "x-goog-hash": ",".join(hashes(metadata)),
            "x-goog-generation": str(metadata.generation),
            "x-goog-metageneration": "1",
            "x-goog-stored-content-length": str(metadata.size),
            "x-goog-stored-content-encoding": "identity",
        }
        partial = "range" in request.headers
        if partial:
            headers["content-range"] = f"bytes {start}-{end - 1}/{metadata.size}"
        return StreamingResponse(
            _chunks(file, start, end), status_code=206 if partial else 200, headers=headers
        )

    async def delete(self, request: Request) -> Response:
        call = understand(request, self._buckets)
        call.demand(Action.DELETE, call.object_name)
        await run_in_threadpool(call.bucket.objects.delete, call.object_name, call.generation)
        return Response(status_code=204)

    async def list(self, request: Request) -> Response:
        call = understand(request, self._buckets)
        prefix = call.query.get("prefix", "")
        call.demand(Action.LIST, prefix)
        limit = min(whole_number(call.query.get("maxResults")) or MAX_RESULTS, MAX_RESULTS)
        objects = call.bucket.objects
        part = page(
            objects.names(prefix, after(call.query.get("pageToken"))),
            prefix=prefix,
            delimiter=call.query.get("delimiter", ""),
            limit=limit,
        )
        found = (objects.find(name) for name in part.names)
        content: dict[str, object] = {
            "kind": "storage#objects",
            "items": [resource(call.bucket.name, metadata) for metadata in found if metadata],
            "prefixes": part.prefixes,
        }
        if part.token:
            content["nextPageToken"] = part.token
        return JSONResponse(content)

    async def configuration(self, request: Request) -> Response:
        call = understand(request, self._buckets)
        call.demand(Action.CONFIGURATION)
        return JSONResponse(
            {
                "kind": "storage#bucket",
                "id": call.bucket.name,
                "name": call.bucket.name,
                "location": "LOCAL",
                "storageClass": "STANDARD",
                "metageneration": "1",
                "iamConfiguration": {
                    "publicAccessPrevention": "enforced",
                    "uniformBucketLevelAccess": {"enabled": True},
                },
                "versioning": {"enabled": False},
                "softDeletePolicy": {"retentionDurationSeconds": "0"},
                "defaultEventBasedHold": False,
            }
        )

    async def bindings(self, request: Request) -> Response:
        call = understand(request, self._buckets)
        call.demand(Action.CONFIGURATION)
        granted = [
            {
                "role": f"local/{action}",
                "members": [f"role:{rule.role}"],
                "condition": {"title": "prefix", "expression": f"name.startsWith({rule.prefix!r})"},
            }
            for rule in call.bucket.rules
            for action in sorted(rule.actions)
        ]
        return JSONResponse({"kind": "storage#policy", "version": 3, "bindings": granted})

    async def test_permissions(self, request: Request) -> Response:
        call = understand(request, self._buckets)
        held = permissions(call.bucket.rules, call.role)
        asked = request.query_params.getlist("permissions")
        kind = "storage#testIamPermissionsResponse"
        return JSONResponse({"kind": kind, "permissions": [p for p in asked if p in held]})


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (chunk := file.read(min(CHUNK_BYTES, end - start))):
            start += len(chunk)
            yield chunk


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end of what is asked for; None if the object has no such bytes."""
    if header is None:
        return 0, size
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if match is None or int(match[1]) >= size:
        return None
    return int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
