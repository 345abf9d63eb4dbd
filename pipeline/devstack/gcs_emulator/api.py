"""The part of Cloud Storage's JSON API that the pipeline uses, and nothing else.

Media and multipart upload, media and metadata get, list, delete, batches of deletions, bucket get
and the IAM policy: the requests of google-cloud-storage 3.17, read in its source.  No request
changes the configuration that a bucket reports (`configuration.py`).  As there, a right to list
holds for the whole bucket or not at all, and a role without it is denied an object that does not
exist.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from erasestream.pipeline.devstack.gcs_emulator.authentication import BearerAuthentication
from erasestream.pipeline.devstack.gcs_emulator.batches import PATH, BatchApi
from erasestream.pipeline.devstack.gcs_emulator.configuration import (
    bucket_resource,
    policy_resource,
)
from erasestream.pipeline.devstack.gcs_emulator.faults import FaultFile, FaultInjector
from erasestream.pipeline.devstack.gcs_emulator.listing import (
    MAX_RESULTS,
    decode_token,
    first_page,
)
from erasestream.pipeline.devstack.gcs_emulator.object_files import CHUNK_BYTES, ObjectMetadata
from erasestream.pipeline.devstack.gcs_emulator.request_context import (
    Bucket,
    parse_number,
    parse_range,
    parse_request,
)
from erasestream.pipeline.devstack.gcs_emulator.responses import (
    client_disconnected,
    error_response,
    etag,
    hashes,
    object_resource,
    translate_error,
)
from erasestream.pipeline.devstack.gcs_emulator.uploads import UploadApi
from erasestream.schemas.errors import ErasestreamError
from erasestream.sinks.buckets.access_policy import Action

ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
B = "/storage/v1/b/{bucket}"
O = "/storage/v1/b/{bucket}/o/{object}"  # noqa: E741 (the API's own name for it)
ACLS = (f"{B}/acl", f"{B}/defaultObjectAcl", f"{O}/acl")


def application(
    buckets: Mapping[str, Bucket],
    *,
    role_of: Callable[[str], str | None],
    faults: FaultFile | None = None,
) -> ASGIApp:
    """Return the server's ASGI application.  `role_of` returns the role of a bearer token."""

    async def serve_part(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    api, uploads = _BucketApi(buckets), UploadApi(buckets)
    routes = [
        Route(PATH, BatchApi(serve_part).serve, methods=["POST"]),
        Route(f"/upload{B}/o", uploads.create, methods=["POST"]),
        Route(f"/download{O}", api.get, methods=["GET"]),
        Route(f"{B}/o", api.list, methods=["GET"]),
        Route(O, api.get, methods=["GET"]),
        Route(O, api.delete, methods=["DELETE"]),
        Route(B, api.configuration, methods=["GET"]),
        Route(f"{B}/iam", api.bindings, methods=["GET"]),
        *(Route(path, _no_acl, methods=ANY) for path in ACLS),
        *(Route(f"{path}/{{entity}}", _no_acl, methods=ANY) for path in ACLS),
    ]
    handlers = {ErasestreamError: translate_error, ClientDisconnect: client_disconnected}
    app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)
    if faults:
        app = FaultInjector(app, faults)
    return BearerAuthentication(app, role_of)


async def _no_acl(_: Request) -> Response:
    return error_response(
        400, "invalid", "There are no ACLs: uniform bucket-level access is enabled."
    )


class _BucketApi:
    """The endpoints of objects and buckets."""

    def __init__(self, buckets: Mapping[str, Bucket]) -> None:
        self._buckets = buckets

    async def get(self, request: Request) -> Response:
        call = parse_request(request, self._buckets)
        call.authorize_existing(Action.READ)
        if call.query.get("alt") != "media":
            metadata = call.bucket.objects.get(call.object_name)
            call.check_generation(metadata)
            return JSONResponse(object_resource(call.bucket.name, metadata))
        header = request.headers.get("range")
        first, last = parse_range(header)
        metadata, file = await run_in_threadpool(call.bucket.objects.open, call.object_name)
        with _closed_on_error(file):
            call.check_generation(metadata)
        end = metadata.size if last is None else min(last + 1, metadata.size)
        if header is None:
            return _FileResponse(file, 0, end, headers=_media_headers(metadata, end))
        if first >= metadata.size:
            file.close()
            return error_response(416, "requestedRangeNotSatisfiable", "No such bytes.")
        headers = _media_headers(metadata, end - first)
        headers["content-range"] = f"bytes {first}-{end - 1}/{metadata.size}"
        return _FileResponse(file, first, end, status_code=206, headers=headers)

    async def delete(self, request: Request) -> Response:
        call = parse_request(request, self._buckets)
        call.authorize_existing(Action.DELETE)
        metadata = call.bucket.objects.get(call.object_name)
        call.check_generation(metadata)
        wanted = metadata.generation if call.selected_generation else call.generation
        await run_in_threadpool(call.bucket.objects.delete, call.object_name, wanted)
        return Response(status_code=204)

    async def list(self, request: Request) -> Response:
        call = parse_request(request, self._buckets)
        prefix = call.query.get("prefix", "")
        call.authorize(Action.LIST)
        limit = min(parse_number(call.query.get("maxResults")) or MAX_RESULTS, MAX_RESULTS)
        objects = call.bucket.objects
        page = first_page(
            objects.names(prefix, decode_token(call.query.get("pageToken"))),
            prefix=prefix,
            delimiter=call.query.get("delimiter", ""),
            limit=limit,
        )
        found = (objects.find(name) for name in page.names)
        content: dict[str, object] = {
            "kind": "storage#objects",
            "items": [
                object_resource(call.bucket.name, metadata) for metadata in found if metadata
            ],
            "prefixes": page.prefixes,
        }
        if page.token:
            content["nextPageToken"] = page.token
        return JSONResponse(content)

    async def configuration(self, request: Request) -> Response:
        call = parse_request(request, self._buckets)
        call.authorize(Action.CONFIGURATION)
        return JSONResponse(bucket_resource(call.bucket.name, call.bucket.reported))

    async def bindings(self, request: Request) -> Response:
        call = parse_request(request, self._buckets)
        call.authorize(Action.POLICY)
        parse_number(call.query.get("optionsRequestedPolicyVersion"))
        return JSONResponse(policy_resource(call.bucket.rules, call.bucket.reported))


@contextmanager
def _closed_on_error(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


class _FileResponse(StreamingResponse):
    """A response that closes its file, sent or not."""

    def __init__(self, file: BinaryIO, start: int, end: int, **options: Any) -> None:
        super().__init__(_chunks(file, start, end), **options)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _media_headers(metadata: ObjectMetadata, length: int) -> dict[str, str]:
    return {
        "content-length": str(length),
        "content-type": metadata.content_type,
        "etag": etag(metadata),
        "x-goog-hash": ",".join(hashes(metadata)),
        "x-goog-generation": str(metadata.generation),
        "x-goog-metageneration": "1",
        "x-goog-stored-content-length": str(metadata.size),
        "x-goog-stored-content-encoding": "identity",
    }


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end and (chunk := file.read(min(CHUNK_BYTES, end - start))):
        start += len(chunk)
        yield chunk
