"""One request with an image: the same for all contracts, which differ in fields and answers."""

import binascii
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from erasestream.pipeline.gateway.adapter import Services
from erasestream.pipeline.gateway.core import Sent
from erasestream.pipeline.gateway.idempotency_header import idempotency_key
from erasestream.pipeline.gateway.image_size import size_of
from erasestream.pipeline.gateway.memory_budget import Share
from erasestream.pipeline.gateway.problems import HttpCode, problem
from erasestream.pipeline.gateway.rate_limits import Allowance
from erasestream.pipeline.gateway.request_body import Body, BodyRules, memory_for, read_body
from erasestream.pipeline.gateway.retention_deadline import RETENTION_DEADLINE
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, MAX_UPLOAD_BYTES, Cutout
from erasestream.schemas.ids import AccountId
from erasestream.schemas.options import CutoutOptions

_LARGEST = BodyRules(max_image_bytes=MAX_UPLOAD_BYTES, file_fields=(), base64_fields=())
CONVERTING_BYTES = max(_LARGEST.decoding_bytes, MAX_CUTOUT_BYTES * 4 // 3 + 1024)
"""Memory for Base64: one image at a time is decoded or encoded, in one step of the event loop."""
URL_FIELD = "image_url"
NEVER_RETAIN = "x-never-retain"
"""A header that only narrows: any value but a plain no is one, also beside a no."""
_NO = frozenset({"", "0", "false", "no"})
_SPACE = b" \t\r\n\v\f"


@dataclass(frozen=True, kw_only=True)
class Order:
    """The wishes of a request."""

    image: bytes | str
    """The image, or the URL of it."""
    options: CutoutOptions
    is_json: bool
    """Whether the body was JSON."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The part of a contract that is its own; `order_of` raises `Problem`."""

    rules: BodyRules
    order_of: Callable[[Body], Order]
    answer: Callable[[Request, Order, Cutout], Response]


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The image of a request on its way, and the memory that it takes."""

    order: Order
    sent: Sent
    share: Share


async def cut_out(services: Services, request: Request, contract: Contract) -> Response:
    """Cut out the image of a request.  Raises `Problem`."""
    async with sending(services, request, contract) as upload:
        response = await answer_within(
            services, request, contract, upload, wait_s=services.core.wait_s
        )
    if response is None:
        raise problem(HTTPStatus.GATEWAY_TIMEOUT, HttpCode.RESULT_PENDING)
    return response


async def answer_within(
    services: Services, request: Request, contract: Contract, upload: Upload, *, wait_s: float
) -> Response | None:
    """Return the answer with the cut-out; None if that takes longer.  Raises `Problem`."""
    finished = await services.core.finish(upload.sent, wait_s)
    if finished is None:
        return None
    cutout, image = finished
    upload.share.resize(len(cutout.data))
    response = contract.answer(request, upload.order, cutout)
    response.headers[RETENTION_DEADLINE] = services.deadlines.header(
        image.uploaded_at, is_retained=image.is_retained
    )
    return response


@asynccontextmanager
async def sending(
    services: Services, request: Request, contract: Contract
) -> AsyncIterator[Upload]:
    """Send the image of a request; until the block ends, it counts.  Raises `Problem`."""
    caller = services.callers.for_images(request)
    key, never_retain = idempotency_key(request), is_never_retained(request)
    with (
        services.admit(request, caller) as allowance,
        services.memory.admit(memory_for(request, contract.rules), caller.account) as share,
    ):
        order = contract.order_of(await read_body(request, contract.rules))
        image = await image_in(services, order, caller.account, allowance)
        allowance.charge(size_of(image).pixels)
        share.resize(len(image))
        send = services.core.sending(
            image,
            account=caller.account,
            options=order.options,
            idempotency_key=key,
            never_retain=never_retain,
        )
        async with send as sent:
            if key is not None and sent.image is None:
                services.accepted.begin(sent.account, sent.id, never_retain=never_retain)
            yield Upload(order=order, sent=sent, share=share)


async def image_in(
    services: Services, order: Order, account: AccountId, allowance: Allowance
) -> bytes:
    """Return the image of an order, fetched if it is at a URL.  Raises `Problem`.

    Fetching costs as much as a small image, whether it succeeds or not.
    """
    if isinstance(order.image, bytes):
        return order.image
    if services.fetchers is None:
        raise problem(HTTPStatus.BAD_REQUEST, HttpCode.URL_FETCH_DISABLED)
    allowance.charge(0)
    with services.memory.admit(MAX_UPLOAD_BYTES, account):
        return await services.fetchers.fetch(order.image, account)


def is_never_retained(request: Request) -> bool:
    """Return whether the image of a request is not to be retained, whatever the owner decided."""
    values = request.headers.getlist(NEVER_RETAIN)
    return any(value.strip().lower() not in _NO for value in values)


def image_of(body: Body, rules: BodyRules) -> bytes | str:
    """Return the one image of a request, or its URL.  Raises `Problem`."""
    images = {*rules.file_fields, *rules.base64_fields, URL_FIELD}
    given = sorted(({*body.files} | {*body.values}) & images)
    match given:
        case []:
            raise problem(HTTPStatus.BAD_REQUEST, HttpCode.MISSING_IMAGE)
        case [name] if name == URL_FIELD:
            return f"{body.values[name]}"
        case [name] if name in body.files:
            return body.files[name]
        case [name]:
            return from_base64(name, body.values)
    raise problem(HTTPStatus.BAD_REQUEST, HttpCode.SEVERAL_IMAGES)


def fields_of(body: Body, rules: BodyRules) -> dict[str, object]:
    """Return all fields but those of images."""
    images = {*rules.base64_fields, URL_FIELD}
    return {name: value for name, value in body.values.items() if name not in images}


def from_base64(name: str, values: Mapping[str, object]) -> bytes:
    """Return the image in a field; a data URL's beginning is skipped.  Raises `Problem`."""
    text = values[name]
    if isinstance(text, str):
        begin = text.find(",") + 1 if text.startswith("data:") else 0
        try:
            # Step by step: two copies of the text at most, besides the one in `values`.
            raw = text.encode("ascii")
            raw = raw[begin:].translate(None, _SPACE)
            return binascii.a2b_base64(raw, strict_mode=True)
        except ValueError:  # as that of the text's encoding, and of Base64
            pass
    raise problem(HTTPStatus.BAD_REQUEST, HttpCode.MALFORMED_BODY, f"{name} is not Base64")
