"""Uploads into a local bucket, each in one request.

An object appears when its upload is complete and has the checksums that it declared; an upload
that is cut off, declares wrong checksums or loses its race leaves nothing.  Resumable uploads
are not supported: the pipeline uses none.
"""

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from erasestream.pipeline.devstack.gcs_emulator.multipart import (
    MediaParser,
    MultipartParser,
    UploadMetadata,
)
from erasestream.pipeline.devstack.gcs_emulator.object_files import PendingUpload, Preconditions
from erasestream.pipeline.devstack.gcs_emulator.request_context import (
    Bucket,
    BucketRequest,
    parse_request,
)
from erasestream.pipeline.devstack.gcs_emulator.responses import error_response, object_resource
from erasestream.schemas.errors import InvalidInput
from erasestream.sinks.buckets.access_policy import Action

PARSERS: Mapping[str | None, type[MediaParser | MultipartParser]] = {
    "media": MediaParser,
    "multipart": MultipartParser,
}
UNSUPPORTED = "Only uploadType media and multipart are supported: resumable uploads are not."


class UploadApi:
    """The endpoint below `/upload`."""

    def __init__(self, buckets: Mapping[str, Bucket]) -> None:
        self._buckets = buckets

    async def create(self, request: Request) -> Response:
        """Create an object."""
        call = parse_request(request, self._buckets)
        parser_type = PARSERS.get(call.query.get("uploadType"))
        if parser_type is None:
            return error_response(400, "invalid", UNSUPPORTED)
        parser = parser_type(request.headers.get("content-type", ""))
        pending = call.bucket.objects.begin_upload()
        try:
            return await _upload(call, parser, pending)
        finally:
            pending.close()


async def _upload(
    call: BucketRequest, parser: MediaParser | MultipartParser, pending: PendingUpload
) -> Response:
    is_authorized = False
    async for chunk in call.body():
        media = parser.feed(chunk)
        if parser.has_metadata and not is_authorized:
            _preconditions(call, parser.metadata(call.query.get("name")))
            is_authorized = True
        pending.write(media)
    pending.write(parser.finish())
    upload = parser.metadata(call.query.get("name"))
    checksums = pending.checksums()
    if any(checksums[kind] != value for kind, value in upload.checksums.items()):
        raise InvalidInput("the bytes do not have the declared checksum")
    metadata = await run_in_threadpool(
        call.bucket.objects.publish,
        pending,
        upload.name,
        upload.content_type,
        _preconditions(call, upload),
    )
    return JSONResponse(object_resource(call.bucket.name, metadata))


def _preconditions(call: BucketRequest, upload: UploadMetadata) -> Preconditions:
    """Return the upload's preconditions.  Raises `Refused` if the role may not create it."""
    call.authorize(Action.CREATE, upload.name)
    return Preconditions(call.generation, call.may(Action.DELETE, upload.name))
