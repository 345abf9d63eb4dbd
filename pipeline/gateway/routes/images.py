"""`/v2/images`: the service's own contract, for those who do not wait.

`POST /v2/images` takes what `POST /v2` takes, and answers at once where the image will be, or with
the cut-out if it is there within the time that the client prefers to wait.  Any gateway of the lane
answers for any image.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from erasestream.pipeline.gateway.adapter import Adapter, Services
from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.core import Sent, cutout_in
from erasestream.pipeline.gateway.problems import (
    HttpCode,
    Problem,
    deleted_image,
    problem,
    try_later,
)
from erasestream.pipeline.gateway.retention_deadline import RETENTION_DEADLINE
from erasestream.pipeline.gateway.routes.image_answers import ImageAnswers
from erasestream.pipeline.gateway.routes.image_upload import (
    Upload,
    answer_within,
    is_never_retained,
    sending,
)
from erasestream.pipeline.gateway.routes.preferences import Preference, preference, prefers_image
from erasestream.pipeline.gateway.routes.v2 import CONTRACT, render
from erasestream.schemas.events.credentials import CredentialSet
from erasestream.schemas.events.image_index import ImageState
from erasestream.schemas.ids import AccountId, UploadId, is_upload_id
from erasestream.topics.client.expired import Expired
from erasestream.topics.index.table import Image

PREFIX = "/v2/images"
ACCEPT_S = 10.0
"""Longest wait for the mark of an image that is on the brokers, after the wait for its cut-out."""
FETCH_BYTES = 16_000_000
"""Room for a cut-out before its size is known."""


def adapter(services: Services) -> Adapter:
    """Return the routes of the contract."""
    routes = _Routes(services)
    one = f"{PREFIX}/{{id}}"
    return Adapter(
        prefix=PREFIX,
        render=render,
        routes=(
            Route(PREFIX, routes.upload, methods=["POST"]),
            Route(one, _limited(services, Callers.for_images, routes.read), methods=["GET"]),
            Route(one, _limited(services, Callers.for_owner, routes.delete), methods=["DELETE"]),
        ),
    )


def _limited(
    services: Services,
    caller_of: Callable[[Callers, Request], CredentialSet],
    handler: Callable[[Request, CredentialSet], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler for as many requests about images as a caller may send."""

    async def handle(request: Request) -> Response:
        caller = caller_of(services.callers, request)
        with services.admit_read(caller):
            return await handler(request, caller)

    return handle


class _Routes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._answers = ImageAnswers(services.deadlines)

    async def upload(self, request: Request) -> Response:
        """Send the image of the request, and answer with its place, or with its cut-out."""
        services = self._services
        wish = preference(request.headers.getlist("prefer"), most_s=services.core.wait_s)
        async with sending(services, request, CONTRACT) as upload:
            headers = _headers(upload.sent, wish)
            try:
                response = await self._answer(request, upload, wait_s=wish.wait_s)
            except Problem as found:
                if (image := _known(upload.sent)) is not None:
                    headers[RETENTION_DEADLINE] = self._answers.deadline(image)
                found.headers = {**found.headers, **headers}
                raise
        response.headers.update(headers)
        return response

    async def _answer(self, request: Request, upload: Upload, *, wait_s: float) -> Response:
        """Answer with the cut-out if it is there in time; otherwise accept its image."""
        services = self._services
        if wait_s and (
            response := await answer_within(services, request, CONTRACT, upload, wait_s=wait_s)
        ):
            return response
        try:
            async with asyncio.timeout(ACCEPT_S):
                return await self._accept(request, upload)
        except TimeoutError:
            raise try_later() from None

    async def _accept(self, request: Request, upload: Upload) -> Response:
        """Tell every gateway of the image, then the client."""
        services, sent = self._services, upload.sent
        image = sent.image
        if image is None:
            # Asked for after it was appended: a later grant does not cover it.
            is_retained = not is_never_retained(request) and await services.has_opted_in(
                sent.account
            )
            await services.mark(sent.account, sent.id, ImageState.ACCEPTED, is_retained)
            image = _pending(sent.at, is_retained=is_retained)
        return self._answers.state(sent.id, image, HTTPStatus.ACCEPTED)

    async def read(self, request: Request, caller: CredentialSet) -> Response:
        """Answer with the state of an image, or with the image itself."""
        services, account = self._services, caller.account
        upload_id, image = await _find(services, request, account)
        if image.is_deleted:
            raise self._answers.with_deadline(deleted_image(), image)
        if services.now() >= services.deadlines.of(image.uploaded_at):
            raise self._answers.expired(image)
        if not prefers_image(request.headers.get("accept", "")):
            return self._answers.state(upload_id, image, HTTPStatus.OK)
        if image.place is None:
            return self._answers.state(upload_id, image, HTTPStatus.ACCEPTED)
        return await self._fetched(account, upload_id, image)

    async def delete(self, request: Request, owner: CredentialSet) -> Response:
        """Hide an image on every gateway, and have what is retained of it erased.

        For the account's owner: the image cannot be brought back.  The erasure is requested first,
        so that nothing is left to do for an image that is deleted: its request stays for good.
        """
        services, account = self._services, owner.account
        upload_id, image = await _find(services, request, account)
        if not image.is_deleted:
            if image.is_retained:
                await services.erase(account, upload_id, owner.key_id)
            await services.mark(account, upload_id, ImageState.DELETED, image.is_retained)
            await services.core.index.current(account, upload_id)
        deleted = image._replace(is_deleted=True)
        return self._answers.state(upload_id, deleted, HTTPStatus.OK)

    async def _fetched(self, account: AccountId, upload_id: UploadId, image: Image) -> Response:
        services = self._services
        with services.memory.admit(FETCH_BYTES, account) as share:
            result = await services.core.fetch(image, account, upload_id)
            if result is None or isinstance(result, Expired):
                raise self._answers.expired(image)
            try:
                cutout = cutout_in(result)
            except Problem as failure:
                raise self._answers.with_deadline(failure, image) from None
            share.resize(len(cutout.data))
            headers = {RETENTION_DEADLINE: self._answers.deadline(image), "Vary": "Accept"}
            return Response(cutout.data, media_type=cutout.content_type, headers=headers)


async def _find(services: Services, request: Request, account: AccountId) -> tuple[UploadId, Image]:
    text = request.path_params["id"]
    image = None
    if is_upload_id(text):
        image = await services.core.index.current(account, UploadId(text))
    if image is None:
        raise problem(HTTPStatus.NOT_FOUND, HttpCode.NO_IMAGE)
    return UploadId(text), image


def _headers(sent: Sent, wish: Preference) -> dict[str, str]:
    applied = {"Preference-Applied": wish.applied} if wish.applied else {}
    return {"Location": f"{PREFIX}/{sent.id}", **applied}


def _known(sent: Sent) -> Image | None:
    """Return the image of an upload if it has a result by now."""
    if sent.image is None and sent.result.done() and not sent.result.cancelled():
        return sent.result.result()
    return sent.image


def _pending(uploaded_at: datetime, *, is_retained: bool) -> Image:
    return Image(
        uploaded_at=uploaded_at,
        place=None,
        code=None,
        is_retained=is_retained,
        is_deleted=False,
        reference=b"",
    )
