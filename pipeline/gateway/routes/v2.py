"""`/v2`: the service's own contract.

`POST /v2` takes one image as a file or in Base64, and answers with the cut-out: its bytes for
multipart and forms, JSON with Base64 for JSON.  The legacy field `image` asks for the mask.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from erasestream.pipeline.gateway.adapter import Adapter, Services
from erasestream.pipeline.gateway.idempotency_header import idempotency_key
from erasestream.pipeline.gateway.image_size import size_of
from erasestream.pipeline.gateway.problems import HttpCode, Problem, problem
from erasestream.pipeline.gateway.request_body import (
    Body,
    BodyKind,
    BodyRules,
    memory_for,
    read_body,
)
from erasestream.pipeline.gateway.routes.v2_options import cutout_options
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Cutout
from erasestream.schemas.options import Channels, CutoutOptions

PREFIX = "/v2"
LEGACY = "image"
"""In Base64; asks for the mask, whatever `channels` is."""
RULES = BodyRules(
    max_image_bytes=MAX_UPLOAD_BYTES,
    file_fields=frozenset({"image_file"}),
    base64_fields=frozenset({"image_base64", LEGACY}),
)
_URL = "image_url"
_IMAGES = {*RULES.file_fields, *RULES.base64_fields, _URL}


@dataclass(frozen=True, kw_only=True)
class Order:
    """The wishes of a request."""

    image: bytes
    options: CutoutOptions
    is_json: bool


def adapter(services: Services) -> Adapter:
    """Return the routes of the contract."""
    routes = V2Routes(services)
    return Adapter(
        prefix=PREFIX,
        render=render,
        routes=(
            Route(PREFIX, routes.cut_out, methods=["POST"]),
            Route(f"{PREFIX}/", routes.cut_out, methods=["POST"]),
            Route(f"{PREFIX}/account", routes.account, methods=["GET"]),
            Route(f"{PREFIX}/health", routes.health, methods=["GET"]),
        ),
    )


def render(found: Problem, request_id: str) -> Response:
    """Return the answer of a problem, in the shape of this contract."""
    error = {
        "code": found.code,
        "message": found.message,
        "status": int(found.status),
        "request_id": request_id,
    }
    return JSONResponse({"error": error}, found.status, headers=dict(found.headers))


class V2Routes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def cut_out(self, request: Request) -> Response:
        """Cut out the image of the request."""
        caller = self._services.callers.for_images(request)
        key = idempotency_key(request)
        with (
            self._services.admit(request, caller) as allowance,
            self._services.memory.admit(memory_for(request, RULES)) as share,
        ):
            order = order_of(await read_body(request, RULES))
            allowance.charge(size_of(order.image).pixels)
            share.resize(len(order.image))
            cutout = await self._services.core.cut_out(
                order.image,
                account=caller.account,
                options=order.options,
                idempotency_key=key,
            )
            share.resize(len(cutout.data))
            return answer(cutout, order)

    async def account(self, request: Request) -> Response:
        """Describe the account of the key: the plan, and whether its owner has opted in."""
        caller = self._services.callers.for_images(request)
        with self._services.limits.admit(caller.key_id) as allowance:
            allowance.charge(0)  # as much as a small image: brokers are asked
            has_opted_in = await self._services.has_opted_in(caller.account)
        described = {
            **self._services.plan,
            "id": caller.account,
            "ai_training_data": "on" if has_opted_in else "off",
        }
        return JSONResponse({"account": described})

    async def health(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        """Tell whether images can be sent."""
        if not self._services.is_ready():
            return JSONResponse({"status": "unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse({"status": "ok"})


def order_of(body: Body) -> Order:
    """Return what a request asks for.  Raises `Problem`."""
    fields = {name: value for name, value in body.values.items() if name not in _IMAGES}
    image = _image_of(body)
    options = cutout_options(fields, is_mask=LEGACY in body.values)
    return Order(image=image, options=options, is_json=body.kind is BodyKind.JSON)


def _image_of(body: Body) -> bytes:
    given = sorted(({*body.files} | {*body.values}) & _IMAGES)
    match given:
        case []:
            raise problem(HTTPStatus.BAD_REQUEST, HttpCode.MISSING_IMAGE)
        case [name]:
            return _image_in(name, body)
    raise problem(HTTPStatus.BAD_REQUEST, HttpCode.SEVERAL_IMAGES)


def _image_in(name: str, body: Body) -> bytes:
    if name == _URL:
        raise problem(HTTPStatus.BAD_REQUEST, HttpCode.URL_FETCH_DISABLED)
    if name in body.files:
        return body.files[name]
    return from_base64(name, body.values)


def from_base64(name: str, values: Mapping[str, object]) -> bytes:
    """Return the image in a field; a data URL's beginning is skipped.  Raises `Problem`."""
    text = values[name]
    if isinstance(text, str):
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise problem(HTTPStatus.BAD_REQUEST, HttpCode.MALFORMED_BODY, f"{name} is not Base64")


def answer(cutout: Cutout, order: Order) -> Response:
    """Return the answer with a cut-out."""
    if not order.is_json:
        return Response(cutout.data, media_type=cutout.content_type)
    size = size_of(cutout.data)
    name = "mask" if order.options.channels is Channels.ALPHA else "image_base64"
    return JSONResponse(
        {
            name: base64.b64encode(cutout.data).decode(),
            "content_type": cutout.content_type,
            "width": size.width,
            "height": size.height,
        }
    )
