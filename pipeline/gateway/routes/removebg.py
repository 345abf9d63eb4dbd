"""`/v1.0`: remove.bg's contract, for its clients.

The cut-out is answered as bytes, or in Base64 to clients that accept JSON alone.  Its errors know
four statuses of refusals: 400, 402 (never here), 403 and 429.

Source: remove.bg's API documentation, version 1.0.
"""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from erasestream.pipeline.gateway.adapter import Adapter, Services
from erasestream.pipeline.gateway.base64_json import IMAGE, base64_json
from erasestream.pipeline.gateway.image_size import size_of
from erasestream.pipeline.gateway.problems import HttpCode, Problem, invalid_option
from erasestream.pipeline.gateway.request_body import Body, BodyKind, BodyRules
from erasestream.pipeline.gateway.routes.image_upload import (
    Contract,
    Order,
    cut_out,
    fields_of,
    image_of,
)
from erasestream.pipeline.gateway.routes.removebg_options import removebg_options
from erasestream.schemas.error_codes import Code
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Cutout

PREFIX = "/v1.0"
BACKGROUND_FILE = "bg_image_file"
"""Read as a file, so that it can be refused by name."""
RULES = BodyRules(
    max_image_bytes=MAX_UPLOAD_BYTES,
    file_fields=frozenset({"image_file", BACKGROUND_FILE}),
    base64_fields=frozenset({"image_file_b64"}),
)
_CODES: Mapping[str, str] = {
    HttpCode.MISSING_KEY: "auth_failed",
    HttpCode.INVALID_KEY: "auth_failed",
    HttpCode.MISSING_IMAGE: "missing_source",
    HttpCode.SEVERAL_IMAGES: "multiple_sources",
    HttpCode.RATE_LIMITED: "rate_limit_exceeded",
    HttpCode.TOO_MANY_AT_ONCE: "rate_limit_exceeded",
    Code.UNSUPPORTED_FORMAT: "invalid_file_type",
    Code.TOO_LARGE: "file_too_large",
}
"""Codes that the contract's clients know; others are those of `/v2`."""
_STATUSES: Mapping[HTTPStatus, HTTPStatus] = {
    HTTPStatus.UNAUTHORIZED: HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
}
_IMPROVE = (
    "Images are kept for training only if the account's owner opts in at /account: "
    "nothing is submitted here."
)


def adapter(services: Services) -> Adapter:
    """Return the routes of the contract."""
    routes = _Routes(services)
    return Adapter(
        prefix=PREFIX,
        render=render,
        routes=(
            Route(f"{PREFIX}/removebg", routes.cut_out, methods=["POST"]),
            Route(f"{PREFIX}/account", routes.account, methods=["GET"]),
            Route(f"{PREFIX}/improve", _refuse_to_improve, methods=["POST"]),
        ),
    )


def render(found: Problem, request_id: str) -> Response:
    """Return the answer of a problem, in the shape of this contract."""
    error = {
        "title": found.message,
        "code": shown_code(found.code),
        "detail": f"Request {request_id}",
    }
    return JSONResponse(
        {"errors": [error]}, shown_status(found.status), headers=dict(found.headers)
    )


def shown_code(code: str) -> str:
    """Return a code as the contract has it."""
    return _CODES.get(code, code)


def shown_status(status: HTTPStatus) -> HTTPStatus:
    """Return a status as the contract has it."""
    return _STATUSES.get(status, status)


async def _refuse_to_improve(_request: Request) -> Response:
    raise Problem(HTTPStatus.FORBIDDEN, HttpCode.FORBIDDEN, _IMPROVE)


class _Routes:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def cut_out(self, request: Request) -> Response:
        return await cut_out(self._services, request, CONTRACT)

    async def account(self, request: Request) -> Response:
        """Describe the account: credits are the operator's (`gateway.plan`), 0 without."""
        self._services.callers.for_images(request)
        text = self._services.plan.get("credits", "")
        credits_left = int(text) if text.isascii() and text.isdecimal() else 0
        return JSONResponse({"data": {"attributes": _account_of(credits_left)}})


def _account_of(credits_left: int) -> dict[str, object]:
    of_kinds = {"total": credits_left, "subscription": credits_left, "payg": 0, "enterprise": 0}
    return {"credits": of_kinds, "api": {"free_calls": 0, "sizes": "all"}}


def order_of(body: Body) -> Order:
    """Return what a request asks for.  Raises `Problem`."""
    if BACKGROUND_FILE in body.files:
        raise invalid_option(f"{BACKGROUND_FILE} is not supported")
    image = image_of(body, RULES)
    options = removebg_options(fields_of(body, RULES))
    return Order(image=image, options=options, is_json=body.kind is BodyKind.JSON)


def answer(request: Request, _order: Order, cutout: Cutout) -> Response:
    """Return the answer with a cut-out."""
    size = size_of(cutout.data)
    headers = {
        "X-Width": f"{size.width}",
        "X-Height": f"{size.height}",
        "X-Type": "auto",
        "X-Credits-Charged": "0",
    }
    box = cutout.foreground._asdict() if cutout.foreground else {}
    headers |= {f"X-Foreground-{name.capitalize()}": f"{box[name]}" for name in box}
    if not _wants_json(request):
        return Response(cutout.data, media_type=cutout.content_type, headers=headers)
    data = {"result_b64": IMAGE, **{f"foreground_{name}": box[name] for name in box}}
    text = base64_json({"data": data}, cutout.data)
    return Response(text, media_type="application/json", headers=headers)


def _wants_json(request: Request) -> bool:
    """Return whether JSON is asked for; not if anything would do, as most clients write."""
    accepted = request.headers.get("accept", "").lower()
    return "application/json" in accepted and "*/*" not in accepted and "image/" not in accepted


CONTRACT = Contract(rules=RULES, order_of=order_of, answer=answer)
