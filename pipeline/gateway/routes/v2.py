"""`/v2`: the service's own contract.

`POST /v2` takes one image as a file or in Base64, and answers with the cut-out: its bytes for
multipart and forms, JSON with Base64 for JSON.  The legacy field `image` asks for the mask.
"""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from erasestream.pipeline.gateway.adapter import Adapter, Services
from erasestream.pipeline.gateway.base64_json import IMAGE, base64_json
from erasestream.pipeline.gateway.image_size import size_of
from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.request_body import Body, BodyKind, BodyRules
from erasestream.pipeline.gateway.routes.image_upload import (
    Contract,
    Order,
    cut_out,
    fields_of,
    image_of,
)
from erasestream.pipeline.gateway.routes.v2_options import cutout_options
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Cutout
from erasestream.schemas.options import Channels

PREFIX = "/v2"
LEGACY = "image"
"""In Base64; asks for the mask, whatever `channels` is."""
RULES = BodyRules(
    max_image_bytes=MAX_UPLOAD_BYTES,
    file_fields=frozenset({"image_file"}),
    base64_fields=frozenset({"image_base64", LEGACY}),
)


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
        return await cut_out(self._services, request, CONTRACT)

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
    image = image_of(body, RULES)
    options = cutout_options(fields_of(body, RULES), is_mask=LEGACY in body.values)
    return Order(image=image, options=options, is_json=body.kind is BodyKind.JSON)


def answer(_request: Request, order: Order, cutout: Cutout) -> Response:
    """Return the answer with a cut-out."""
    if not order.is_json:
        return Response(cutout.data, media_type=cutout.content_type)
    size = size_of(cutout.data)
    name = "mask" if order.options.channels is Channels.ALPHA else "image_base64"
    values = {
        name: IMAGE,
        "content_type": cutout.content_type,
        "width": size.width,
        "height": size.height,
    }
    return Response(base64_json(values, cutout.data), media_type="application/json")


CONTRACT = Contract(rules=RULES, order_of=order_of, answer=answer)
