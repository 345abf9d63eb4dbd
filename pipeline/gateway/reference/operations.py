"""Declarations from which the document is built.  Pure.

The adapters' code refuses what is not declared there, and a test compares: fields with those that
are read, codes and statuses with those that are raised, all of them with `docs/gateway.md`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from erasestream.pipeline.gateway.problems import HttpCode, status_of
from erasestream.schemas.error_codes import FAILURE_CODES, Code

Schema = Mapping[str, object]
AnyCode = HttpCode | Code

TEXT: Schema = {"type": "string"}
BINARY: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
BASE64: Schema = {"type": "string", "contentEncoding": "base64"}
FLAG: Schema = {"enum": ["true", "false", "1", "0", "yes", "no"]}
FLAG_OR_BOOLEAN: Schema = {"anyOf": [{"type": "boolean"}, FLAG]}

MULTIPART = "multipart/form-data"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

KEY_CODES: tuple[AnyCode, ...] = (
    HttpCode.MISSING_KEY,
    HttpCode.INVALID_KEY,
    HttpCode.UNAVAILABLE,
)
"""Codes of requests with an API key."""
LIMIT_CODES: tuple[AnyCode, ...] = (HttpCode.RATE_LIMITED, HttpCode.TOO_MANY_AT_ONCE)
UPLOAD_CODES: tuple[AnyCode, ...] = (
    *KEY_CODES,
    *LIMIT_CODES,
    HttpCode.MISSING_IMAGE,
    HttpCode.SEVERAL_IMAGES,
    HttpCode.MALFORMED_BODY,
    HttpCode.URL_FETCH_DISABLED,
    HttpCode.INVALID_URL,
    HttpCode.URL_FAILED,
    HttpCode.INVALID_IDEMPOTENCY_KEY,
    HttpCode.BODY_TIMEOUT,
    HttpCode.IN_PROGRESS,
    HttpCode.KEY_EXPIRED,
    HttpCode.IMAGE_DELETED,
    HttpCode.UNSUPPORTED_BODY,
    HttpCode.KEY_REUSED,
    HttpCode.OVERLOADED,
    HttpCode.RESULT_PENDING,
    *FAILURE_CODES,
)
"""Codes of requests with an image: of the request, of the way to the cut-out, of failed results."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a body."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header of a request or an answer."""

    name: str
    description: str
    schema: Schema = field(default_factory=lambda: TEXT)
    is_always: bool = True
    """Whether every such answer has it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that is no error: schemas by media type."""

    description: str
    content: Mapping[str, Schema]
    headers: Sequence[Header] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    answers: Mapping[HTTPStatus, Answer]
    codes: Sequence[AnyCode] = ()
    bodies: Mapping[str, Sequence[Field]] = field(default_factory=dict)
    headers: Sequence[Header] = ()
    has_key: bool = True
    is_limited: bool = False
    """Whether answers tell what is left of the limits."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The operations of one contract, and the shape of its errors."""

    title: str
    operations: Sequence[Operation]
    shown: Callable[[HTTPStatus, AnyCode], tuple[HTTPStatus, str]]
    """Returns status and code that its clients get."""
    error_schema: Callable[[HTTPStatus, Sequence[str]], Schema]
    """Returns the schema of an error with this status and one of these codes."""

    def errors(self, operation: Operation) -> Mapping[HTTPStatus, list[str]]:
        """Return the codes of an operation by status."""
        found: dict[HTTPStatus, list[str]] = {}
        for code in operation.codes:
            status, shown = self.shown(status_of(code), code)
            if shown not in found.setdefault(status, []):
                found[status].append(shown)
        return dict(sorted(found.items()))


def errors_of(error: Schema) -> Schema:
    """Return the schema of an object whose properties are all required."""
    return {"type": "object", "properties": error, "required": list(error)}


IDEMPOTENCY = Header(
    name="Idempotency-Key",
    description="A retry with the same key gets the result of the first try.",
    schema={"type": "string", "minLength": 1, "maxLength": 255},
)
NEVER_RETAIN = Header(
    name="X-Never-Retain", description="1: this image is never kept, whatever the opt-in."
)
UPLOAD_HEADERS = (IDEMPOTENCY, NEVER_RETAIN)
REQUEST_ID = Header(
    name="X-Request-Id",
    description="Id of the request, for support.",
    schema={"type": "string", "pattern": "^[0-9a-f]{32}$"},
)
RETRY_AFTER = Header(
    name="Retry-After", description="Seconds to wait.", schema={"type": "integer", "minimum": 1}
)
LIMITS = (
    Header(name="RateLimit-Policy", description="Images in a minute."),
    Header(name="RateLimit", description="Images that are left, and seconds until all are back."),
    Header(name="X-RateLimit-Limit", description="Images in a minute.", schema={"type": "integer"}),
    Header(name="X-RateLimit-Remaining", description="Images left.", schema={"type": "integer"}),
    Header(
        name="X-RateLimit-Reset",
        description="Time at which all are back, in seconds since 1970.",
        schema={"type": "integer"},
    ),
)
