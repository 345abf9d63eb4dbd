"""`/openapi.json`, and `/api`, the page that shows the same document without a script."""

import json
from collections.abc import Sequence
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from erasestream.pipeline.gateway.account_page.pages import Pages
from erasestream.pipeline.gateway.adapter import Adapter
from erasestream.pipeline.gateway.reference import images, removebg, v2
from erasestream.pipeline.gateway.reference.document import document
from erasestream.pipeline.gateway.reference.operations import (
    JSON,
    TEXT,
    Answer,
    Contract,
    Operation,
    errors_of,
)

DOCUMENT = "/openapi.json"
PAGE = "/api"
_OWN = Contract(
    title="Reference",
    shown=v2.CONTRACT.shown,
    error_schema=v2.error_schema,
    operations=(
        Operation(
            method="GET",
            path=DOCUMENT,
            summary="This document",
            answers={
                HTTPStatus.OK: Answer(
                    description="OpenAPI 3.1.",
                    content={JSON: {**errors_of({"openapi": TEXT})}},
                )
            },
            has_key=False,
        ),
        Operation(
            method="GET",
            path=PAGE,
            summary="This document for people",
            answers={HTTPStatus.OK: Answer(description="A page.", content={"text/html": TEXT})},
            has_key=False,
        ),
    ),
)
CONTRACTS: Sequence[Contract] = (v2.CONTRACT, images.CONTRACT, removebg.CONTRACT, _OWN)


def adapter(service: str, fallback: Adapter) -> Adapter:
    """Return the routes.  Errors have the shape of the `fallback`."""
    described = document(service, CONTRACTS)
    raw = json.dumps(described, separators=(",", ":")).encode()
    page = Pages(service=service).page("api.html", document=described)

    async def show_document(_request: Request) -> Response:
        return Response(raw, media_type=JSON)

    async def show_page(_request: Request) -> Response:
        return page

    return Adapter(
        prefix=PAGE,
        render=fallback.render,
        routes=(
            Route(DOCUMENT, show_document, methods=["GET"]),
            Route(PAGE, show_page, methods=["GET"]),
        ),
    )
