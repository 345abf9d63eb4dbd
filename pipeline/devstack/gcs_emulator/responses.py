"""Responses of the bucket server, as the JSON API writes them."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from erasestream.pipeline.devstack.gcs_emulator.object_files import ObjectMetadata
from erasestream.schemas.errors import (
    AlreadyExists,
    Code,
    ErasestreamError,
    InvalidInput,
    NotFound,
    Refused,
)

STATUS: tuple[tuple[type[ErasestreamError], int, str], ...] = (
    (NotFound, 404, "notFound"),
    (AlreadyExists, 412, "conditionNotMet"),
    (Refused, 403, "forbidden"),
    (InvalidInput, 400, "invalid"),
)

MESSAGES = {
    Code.MISSING_BUCKET: "The specified bucket does not exist.",
    Code.NOT_FOUND: "No such object.",
}


async def translate_error(_: Request, problem: Exception) -> Response:
    """Return the response to a request that failed."""
    for kind, status, reason in STATUS:
        if isinstance(problem, kind):
            return error_response(status, reason, MESSAGES.get(problem.code, problem.sentence))
    raise problem


async def client_disconnected(_: Request, __: Exception) -> Response:
    """Return a response for a client that closed its connection during an upload."""
    return error_response(400, "invalid", "The upload was cut off.")


def error_response(status: int, reason: str, message: str) -> Response:
    """Return an error."""
    detail = {"domain": "global", "reason": reason, "message": message}
    content = {"error": {"code": status, "message": message, "errors": [detail]}}
    return JSONResponse(content, status_code=status)


def object_resource(bucket: str, metadata: ObjectMetadata) -> dict[str, str]:
    """Return an object's metadata."""
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


def etag(metadata: ObjectMetadata) -> str:
    """Return the entity tag, which changes with every generation."""
    return f"g{metadata.generation}"


def hashes(metadata: ObjectMetadata) -> Iterator[str]:
    """Yield the parts of an `x-goog-hash` header."""
    yield f"crc32c={metadata.crc32c}"
    yield f"md5={metadata.md5}"
