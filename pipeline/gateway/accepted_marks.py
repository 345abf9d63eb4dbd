"""Mark uploads with an Idempotency-Key as accepted, beside their requests.

With the mark every gateway of the lane, and this one after a restart, knows that the upload is on
the brokers, and sends no retry of it.  Without, a retry may be sent again, under the same id:

* a mark follows the acknowledgement of its upload, so that nothing is refused which was never
  appended; a gateway that ends between the two leaves none;
* a mark that cannot be written is given up, since the upload goes on;
* whether the image may be retained is asked for after it was appended: a later grant does not cover
  it.  If that cannot be read, it may be: deleting it then erases what there may be.

For one event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.image_index import ImageState
from erasestream.schemas.ids import AccountId, UploadId

Mark = Callable[[AccountId, UploadId, ImageState, bool], Awaitable[None]]
"""Writes a mark, with whether the image may be retained."""

HasOptedIn = Callable[[AccountId], Awaitable[bool]]

CLOSE_S = 2.0

log = logging.getLogger(__name__)


class AcceptedMarks:
    """Marks that are being written."""

    def __init__(self, mark: Mark, has_opted_in: HasOptedIn) -> None:
        self._mark = mark
        self._has_opted_in = has_opted_in
        self._tasks = set[asyncio.Task[None]]()

    def begin(self, account: AccountId, upload_id: UploadId, *, never_retain: bool) -> None:
        """Begin to mark an upload that is acknowledged."""
        task = asyncio.create_task(self._write(account, upload_id, never_retain=never_retain))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish the marks that are being written, and give up those that take longer."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()

    async def _write(self, account: AccountId, upload_id: UploadId, *, never_retain: bool) -> None:
        may_be_retained = not never_retain and await self._may_retain(account)
        try:
            await self._mark(account, upload_id, ImageState.ACCEPTED, may_be_retained)
        except (Problem, ErasestreamError) as error:
            log.warning("upload_not_marked", extra={"code": error.code})

    async def _may_retain(self, account: AccountId) -> bool:
        try:
            return await self._has_opted_in(account)
        except (Problem, ErasestreamError):
            return True
