"""Errors of the gateway: an HTTP status, a stable code and a sentence for a person.

Each adapter writes them in the shape of its own contract.  Codes beside those of the pipeline
(`schemas/error_codes.py`) are of HTTP only.
"""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType

from erasestream.schemas.error_codes import SENTENCES, Code
from erasestream.schemas.errors import AccountClosed, ErasestreamError, InvalidInput, Unavailable


class HttpCode(StrEnum):
    """Stable codes of answers that no failed result has."""

    MISSING_KEY = "missing_api_key"
    INVALID_KEY = "invalid_api_key"
    FORBIDDEN = "forbidden"
    NO_ROUTE = "no_such_path"
    WRONG_METHOD = "method_not_allowed"
    MISSING_IMAGE = "missing_image"
    SEVERAL_IMAGES = "several_images"
    MALFORMED_BODY = "malformed_body"
    UNSUPPORTED_BODY = "unsupported_body"
    URL_FETCH_DISABLED = "url_fetch_disabled"
    INVALID_URL = "invalid_image_url"
    URL_FAILED = "image_url_failed"
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key"
    KEY_REUSED = "idempotency_key_reused"
    IN_PROGRESS = "in_progress"
    KEY_EXPIRED = "key_expired"
    BODY_TIMEOUT = "body_timeout"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_AT_ONCE = "too_many_at_once"
    OVERLOADED = "overloaded"
    RESULT_PENDING = "result_pending"
    NO_IMAGE = "no_such_image"
    IMAGE_EXPIRED = "image_expired"
    IMAGE_DELETED = "image_deleted"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal_error"
    # Of the account page.
    TOO_MANY_REQUESTS = "too_many_requests"
    SESSION_ENDED = "session_ended"
    FORM_REFUSED = "form_refused"
    NOTICE_CHANGED = "notice_changed"


HTTP_SENTENCES: Mapping[HttpCode, str] = MappingProxyType(
    {
        HttpCode.MISSING_KEY: "Send your API key in the header x-api-key.",
        HttpCode.INVALID_KEY: "This API key is unknown, expired or revoked.",
        HttpCode.FORBIDDEN: "This API key is not for this: sign in at /account.",
        HttpCode.NO_ROUTE: "There is nothing at this path.",
        HttpCode.WRONG_METHOD: "This path does not take this method.",
        HttpCode.MISSING_IMAGE: "Send an image in one of the fields that the API describes.",
        HttpCode.SEVERAL_IMAGES: "Send one image, in one field.",
        HttpCode.MALFORMED_BODY: "The body of the request cannot be read.",
        HttpCode.UNSUPPORTED_BODY: "Send multipart/form-data or application/json, not compressed.",
        HttpCode.URL_FETCH_DISABLED: "Images are not fetched from URLs: send the image itself.",
        HttpCode.INVALID_URL: (
            "The URL of an image has https, the name of a public host and no other port than 443."
        ),
        HttpCode.URL_FAILED: "The image could not be fetched from its URL.",
        HttpCode.INVALID_IDEMPOTENCY_KEY: (
            "An Idempotency-Key has 1 to 255 printable characters of ASCII."
        ),
        HttpCode.KEY_REUSED: "This Idempotency-Key was used for another image or other options.",
        HttpCode.IN_PROGRESS: "The upload with this Idempotency-Key is being processed: ask again.",
        HttpCode.KEY_EXPIRED: (
            "The day of this Idempotency-Key is over, and with it the cut-out: use another key."
        ),
        HttpCode.BODY_TIMEOUT: "The body of the request took too long.",
        HttpCode.RATE_LIMITED: "This API key has sent too many images: wait as Retry-After asks.",
        HttpCode.TOO_MANY_AT_ONCE: "Too many images of this API key are being processed.",
        HttpCode.OVERLOADED: "Too many images are being processed: try again later.",
        HttpCode.RESULT_PENDING: (
            "The cut-out is not ready yet: ask again, with the same Idempotency-Key."
        ),
        HttpCode.NO_IMAGE: "There is no image with this id.",
        HttpCode.IMAGE_EXPIRED: "The time of this image is over: it cannot be opened any more.",
        HttpCode.IMAGE_DELETED: "This image was deleted.",
        HttpCode.UNAVAILABLE: "The service cannot process images now: try again later.",
        HttpCode.INTERNAL: "Something is wrong on our side.",
        HttpCode.TOO_MANY_REQUESTS: "Too many requests: wait as Retry-After asks.",
        HttpCode.SESSION_ENDED: "Your session has ended: sign in again.",
        HttpCode.FORM_REFUSED: "This form is not from your session: open the page again.",
        HttpCode.NOTICE_CHANGED: "The text has changed since you opened it: please read it again.",
    }
)

HTTP_STATUSES: Mapping[HttpCode, HTTPStatus] = MappingProxyType(
    {
        HttpCode.MISSING_KEY: HTTPStatus.UNAUTHORIZED,
        HttpCode.INVALID_KEY: HTTPStatus.UNAUTHORIZED,
        HttpCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
        HttpCode.NO_ROUTE: HTTPStatus.NOT_FOUND,
        HttpCode.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
        HttpCode.MISSING_IMAGE: HTTPStatus.BAD_REQUEST,
        HttpCode.SEVERAL_IMAGES: HTTPStatus.BAD_REQUEST,
        HttpCode.MALFORMED_BODY: HTTPStatus.BAD_REQUEST,
        HttpCode.UNSUPPORTED_BODY: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HttpCode.URL_FETCH_DISABLED: HTTPStatus.BAD_REQUEST,
        HttpCode.INVALID_URL: HTTPStatus.BAD_REQUEST,
        HttpCode.URL_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
        HttpCode.INVALID_IDEMPOTENCY_KEY: HTTPStatus.BAD_REQUEST,
        HttpCode.KEY_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
        HttpCode.IN_PROGRESS: HTTPStatus.CONFLICT,
        HttpCode.KEY_EXPIRED: HTTPStatus.CONFLICT,
        HttpCode.BODY_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
        HttpCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
        HttpCode.TOO_MANY_AT_ONCE: HTTPStatus.TOO_MANY_REQUESTS,
        HttpCode.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
        HttpCode.RESULT_PENDING: HTTPStatus.GATEWAY_TIMEOUT,
        HttpCode.NO_IMAGE: HTTPStatus.NOT_FOUND,
        HttpCode.IMAGE_EXPIRED: HTTPStatus.GONE,
        HttpCode.IMAGE_DELETED: HTTPStatus.GONE,
        HttpCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
        HttpCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
        HttpCode.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
        HttpCode.SESSION_ENDED: HTTPStatus.UNAUTHORIZED,
        HttpCode.FORM_REFUSED: HTTPStatus.FORBIDDEN,
        HttpCode.NOTICE_CHANGED: HTTPStatus.CONFLICT,
    }
)
"""The status of each code, for the reference of the API; a test finds any other in the code."""

RETRY_AFTER_S = 2
_STATUS_OF_FAILURE: Mapping[str, HTTPStatus] = {
    Code.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.UNSUPPORTED_FORMAT: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.PROCESSING_CRASHED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.PROCESSING_TIMEOUT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.ENCODING_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.RESULT_TOO_LARGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.EXPIRED: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(Exception):
    """Ends a request with this answer."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def problem(status: HTTPStatus, code: HttpCode, detail: str = "") -> Problem:
    """Return the problem of a code of HTTP."""
    sentence = HTTP_SENTENCES[code]
    return Problem(status, code, f"{sentence} ({detail})" if detail else sentence)


def try_later(code: HttpCode = HttpCode.UNAVAILABLE, *, after_s: int = RETRY_AFTER_S) -> Problem:
    """Return the problem of a request that may succeed later (503)."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        code,
        HTTP_SENTENCES[code],
        headers={"Retry-After": f"{after_s}"},
    )


def status_of(code: str) -> HTTPStatus:
    """Return the status of a code of HTTP, or of a failed result."""
    if code in HTTP_STATUSES:
        return HTTP_STATUSES[HttpCode(code)]
    return _STATUS_OF_FAILURE.get(code, HTTPStatus.BAD_REQUEST)


def of_failure(code: str, sentence: str) -> Problem:
    """Return the problem of a failed result."""
    status = status_of(code)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        return Problem(status, code, sentence, headers={"Retry-After": f"{RETRY_AFTER_S}"})
    return Problem(status, code, sentence)


def of_error(error: ErasestreamError) -> Problem:
    """Return the problem of one of our errors; none tells of the installation."""
    match error:
        case InvalidInput():
            return of_failure(error.code, error.sentence)
        case AccountClosed():
            return Problem(HTTPStatus.CONFLICT, error.code, error.sentence)
        case Unavailable(code=Code.QUEUE_FULL):
            return try_later(HttpCode.OVERLOADED)
        case Unavailable():
            return try_later()
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, HttpCode.INTERNAL)


def invalid_option(detail: str) -> Problem:
    """Return the problem of an option that is unknown or has no valid value."""
    message = f"{SENTENCES[Code.INVALID_OPTIONS]} ({detail})"
    return Problem(HTTPStatus.BAD_REQUEST, Code.INVALID_OPTIONS, message)


def deleted_image() -> Problem:
    """Return the problem of an image that its owner deleted."""
    return problem(HTTPStatus.GONE, HttpCode.IMAGE_DELETED)


def reused_key() -> Problem:
    """Return the problem of an Idempotency-Key that was used for another upload."""
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, HttpCode.KEY_REUSED)
