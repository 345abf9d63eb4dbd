"""Send rows, and record each acknowledgement in the checkpoint before it is reported.

A row without a key of its own gets an id derived from the run and its number, so that a row that
is sent again after a crash keeps its id.
"""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint
from erasestream.pipeline.bulk_upload.manifest_reader import Row
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.upload_producer import Receipt


class Uploader(Protocol):
    """Sends uploads; `UploadProducer` is one."""

    def send(
        self,
        image: bytes,
        *,
        account: str,
        reference: str | None,
        options: CutoutOptions | None,
        idempotency_key: str | None,
        idempotency_time: datetime | None,
    ) -> Future[Receipt]:
        """Send one upload; see `UploadProducer.send`."""


class Outcome(NamedTuple):
    """The result of a row that was sent; without an error it is acknowledged and recorded."""

    row: Row
    error: BaseException | None


class RowSender:
    """Sends rows, and hands out their outcomes in the order of their arrival.

    All methods are called from one thread.  Acknowledgements arrive in the uploader's.
    """

    def __init__(
        self, *, uploader: Uploader, checkpoint: Checkpoint, options: CutoutOptions | None
    ) -> None:
        self._uploader = uploader
        self._checkpoint = checkpoint
        self._options = options
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.in_flight: int = 0

    def send(self, row: Row, image: bytes) -> None:
        """Send a row.  Raises `InvalidInput`, `Unavailable` or `Refused`."""
        run = self._checkpoint.run
        answer = self._uploader.send(
            image,
            account=row.account,
            reference=row.reference,
            options=self._options,
            idempotency_key=row.idempotency_key or f"{run.id}/{row.number}",
            idempotency_time=run.time,
        )
        self.in_flight += 1
        answer.add_done_callback(partial(self._on_answer, row))

    def take_outcome(self, *, timeout_s: float) -> Outcome | None:
        """Return the next outcome, or None if there is none within the timeout."""
        take: Callable[[], Outcome] = (
            partial(self._outcomes.get, timeout=timeout_s)
            if timeout_s
            else self._outcomes.get_nowait
        )
        try:
            outcome = take()
        except Empty:
            return None
        self.in_flight -= 1
        return outcome

    def _on_answer(self, row: Row, answer: Future[Receipt]) -> None:
        error = answer.exception()
        if error is None:
            try:
                self._checkpoint.record(row.number)
            except OSError as not_recorded:
                error = not_recorded
        self._outcomes.put(Outcome(row, error))
