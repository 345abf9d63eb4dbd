"""`/v2/images` as it is declared."""

from http import HTTPStatus

from erasestream.pipeline.gateway.problems import HttpCode
from erasestream.pipeline.gateway.reference import v2
from erasestream.pipeline.gateway.reference.operations import (
    JSON,
    KEY_CODES,
    RETRY_AFTER,
    TEXT,
    UPLOAD_CODES,
    UPLOAD_HEADERS,
    Answer,
    Contract,
    Header,
    Operation,
    Schema,
    errors_of,
)
from erasestream.pipeline.gateway.retention_deadline import RETENTION_DEADLINE
from erasestream.pipeline.gateway.routes.images import PREFIX
from erasestream.schemas.error_codes import FAILURE_CODES

_ONE = f"{PREFIX}/{{id}}"
_DEADLINE = Header(
    name=RETENTION_DEADLINE,
    description="The moment after which nothing can open the image, or `opt-in`.",
)
_LOCATION = Header(name="Location", description="Path of the image.")
_TIME: Schema = {"type": "string", "format": "date-time"}
_COMMON: dict[str, Schema] = {
    "id": TEXT,
    "uploaded_at": _TIME,
    "retention_deadline": {"anyOf": [_TIME, {"type": "null"}]},
}
_ERROR = errors_of({"code": TEXT, "message": TEXT})


def _state(*states: str, **more: Schema) -> Schema:
    return errors_of({"image": errors_of({**_COMMON, "state": {"enum": list(states)}, **more})})


_RETAINED: Schema = {"type": "boolean"}
_KNOWN = _state("pending", "done", "failed", retained=_RETAINED)
_DELETED = _state(
    "deleted", forgotten_at=_TIME, erasure={"anyOf": [{"const": "requested"}, {"type": "null"}]}
)
_ACCEPTED = Answer(
    description="The image is on the brokers; its state.",
    content={JSON: _KNOWN},
    headers=(_DEADLINE,),
)
_NOT_FOUND = HttpCode.NO_IMAGE, HttpCode.NO_ROUTE
"""The second for an id with a slash."""
_UPLOAD = v2.CONTRACT.operations[0]

CONTRACT = Contract(
    title="Images without waiting",
    shown=v2.CONTRACT.shown,
    error_schema=v2.error_schema,
    operations=(
        Operation(
            method="POST",
            path=PREFIX,
            summary="Cut out an image, and answer at once",
            headers=(
                *UPLOAD_HEADERS,
                Header(
                    name="Prefer",
                    description="`wait=10`: wait so many seconds for the cut-out; `respond-async`.",
                ),
            ),
            bodies=_UPLOAD.bodies,
            answers={
                HTTPStatus.OK: Answer(
                    description="The cut-out, as from /v2: it was there in time.",
                    content=_UPLOAD.answers[HTTPStatus.OK].content,
                    headers=(_LOCATION, _DEADLINE),
                ),
                HTTPStatus.ACCEPTED: Answer(
                    description=_ACCEPTED.description,
                    content=_ACCEPTED.content,
                    headers=(_LOCATION, _DEADLINE),
                ),
            },
            codes=tuple(code for code in UPLOAD_CODES if code != HttpCode.RESULT_PENDING),
            is_limited=True,
        ),
        Operation(
            method="GET",
            path=_ONE,
            summary="State of an image, or the image if Accept prefers it",
            answers={
                HTTPStatus.OK: Answer(
                    description="The state, or the image's bytes.",
                    content={**v2.IMAGES, JSON: _KNOWN},
                    headers=(_DEADLINE,),
                ),
                HTTPStatus.ACCEPTED: Answer(
                    description="An image was asked for, and is not there yet.",
                    content={JSON: _KNOWN},
                    headers=(_DEADLINE, RETRY_AFTER),
                ),
            },
            codes=(
                *KEY_CODES,
                *_NOT_FOUND,
                HttpCode.TOO_MANY_REQUESTS,
                HttpCode.IMAGE_DELETED,
                HttpCode.IMAGE_EXPIRED,
                HttpCode.OVERLOADED,
                *FAILURE_CODES,
            ),
        ),
        Operation(
            method="DELETE",
            path=_ONE,
            summary="Delete an image; for owners' keys",
            answers={
                HTTPStatus.OK: Answer(
                    description="It is hidden, and what is kept of it will be erased.",
                    content={JSON: _DELETED},
                    headers=(_DEADLINE,),
                )
            },
            codes=(
                *KEY_CODES,
                HttpCode.FORBIDDEN,
                *_NOT_FOUND,
                HttpCode.TOO_MANY_REQUESTS,
                HttpCode.OVERLOADED,
            ),
        ),
    ),
)
