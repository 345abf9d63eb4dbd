"""Upload what a manifest lists: millions of rows, and again from where it stopped.

The promise: a row counts as done only when the brokers have acknowledged it, and then it
is never sent again by this checkpoint, whenever the process was killed.  A row that was
under way at the kill is sent again with the same id, so its result is one.

* Rows and images are read one at a time; the uploader's bound on waiting bytes is ours.
* A row at fault (unreadable, no such file, not an image, ...) is a failure with a code and
  stops nothing.  Failures are not in the checkpoint: resuming tries them again.
* Brokers that are away are waited for.  What they refuse ends the run; so does a checkpoint
  that can not be written.
"""

import logging
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, assert_never

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint, new_run
from erasestream.pipeline.bulk_upload.manifest_reader import BadRow, Row, fingerprint, read_rows
from erasestream.schemas.errors import Code, InvalidInput, Unavailable
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.upload_producer import Receipt

log = logging.getLogger(__name__)

_BACK_OFF_S = 1.0


class Uploader(Protocol):
    """Who sends; `UploadProducer` is one."""

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
        """As `UploadProducer.send`."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far it is.  `expected` is the number of lines, a hint; failures are of this run."""

    expected: int
    read: int
    acknowledged: int
    acknowledged_before: int
    failed: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of it: rows acknowledged now and in earlier runs, and failures by code."""

    acknowledged: int
    acknowledged_before: int
    failures: Counter[Code] = field(default_factory=Counter)


def upload_manifest(
    manifest: Path,
    *,
    uploader: Uploader,
    checkpoint: Checkpoint,
    expected: int = 0,
    options: CutoutOptions | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_failure: Callable[[int, Code], None] = lambda _row, _code: None,
    wait: Callable[[float], None] = time.sleep,
) -> Summary:
    """Send every row that the checkpoint does not have, and return when all are answered.

    `on_progress` is called after every row that is read or answered; `on_failure` gets the
    number of the row.  Close the uploader before the checkpoint, also after an exception:
    acknowledgements that come meanwhile are recorded.
    Raises `Refused` for a wrong header line or what the brokers refuse, `OSError` if the
    checkpoint can not be written.
    """
    upload = _ManifestUpload(uploader, checkpoint, options, on_failure, wait)
    for _ in upload.run(read_rows(manifest)):
        on_progress(upload.progress(expected))
    return Summary(
        acknowledged=upload.acknowledged,
        acknowledged_before=upload.acknowledged_before,
        failures=upload.failures,
    )


def open_checkpoint(
    manifest: Path,
    path: Path,
    *,
    lane: Lane,
    resume: bool,
    clock: Callable[[], datetime],
    random: Callable[[int], bytes] = os.urandom,
) -> tuple[Checkpoint, int]:
    """The checkpoint of this manifest, and about how many rows it has.

    With `resume` the one that is there, or a new one; without, only a new one.
    Raises `Refused` (checkpoint_refused) if it is there, in use, or another manifest's.
    """
    found = fingerprint(manifest)
    run = new_run(lane=lane, manifest_sha256=found.sha256, now=clock(), random=random(16))
    opened = Checkpoint.resume(path, run) if resume else Checkpoint.begin(path, run)
    return opened, found.lines


def read_image(path: Path) -> bytes | Code:
    """The bytes of an image file, or why there are none; never more than one upload may have."""
    try:
        # Without O_NONBLOCK a named pipe would be waited for.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return Code.MISSING_FILE
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return Code.UNREADABLE_FILE
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return Code.UNREADABLE_FILE
        if found.st_size > MAX_UPLOAD_BYTES:
            return Code.TOO_LARGE
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(MAX_UPLOAD_BYTES + 1)
    except OSError:
        return Code.UNREADABLE_FILE
    finally:
        os.close(file)


class _ManifestUpload:
    """One run.  Everything but `_answered` happens in the caller's thread."""

    def __init__(
        self,
        uploader: Uploader,
        checkpoint: Checkpoint,
        options: CutoutOptions | None,
        on_failure: Callable[[int, Code], None],
        wait: Callable[[float], None],
    ) -> None:
        self._on_failure = on_failure
        self._uploader = uploader
        self._checkpoint = checkpoint
        self._options = options
        self._wait = wait
        self._answers: SimpleQueue[tuple[Row, BaseException | None]] = SimpleQueue()
        self._again: deque[Row] = deque()
        self._under_way = 0
        self._read = 0
        self.acknowledged = 0
        self.acknowledged_before = 0
        self.failures: Counter[Code] = Counter()

    def progress(self, expected: int) -> Progress:
        """How far it is."""
        return Progress(
            expected=expected,
            read=self._read,
            acknowledged=self.acknowledged,
            acknowledged_before=self.acknowledged_before,
            failed=self.failures.total(),
            waiting=self._under_way + len(self._again),
        )

    def run(self, rows: Iterable[Row | BadRow]) -> Iterator[None]:
        """Do the work, with a pause for the caller after every row and every answer."""
        for row in rows:
            self._read += 1
            if row.number in self._checkpoint.acknowledged:
                self.acknowledged_before += 1
            else:
                self._take(row)
            while self._take_answer(wait_s=0.0):
                yield
            while self._again:  # so that no more rows are postponed than were under way
                self._send_again()
                yield
            yield
        while self._under_way or self._again:
            self._take_answer(wait_s=1.0)
            self._send_again()
            yield

    def _take(self, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            self._fail(row.number, Code.INVALID_ROW)
            return
        image = read_image(row.path)
        match image:
            case Code():
                self._fail(row.number, image)
            case bytes():
                self._send(row, image)
            case _:
                assert_never(image)

    def _send(self, row: Row, image: bytes) -> None:
        run = self._checkpoint.run
        try:
            answer = self._uploader.send(
                image,
                account=row.account,
                reference=row.reference,
                options=self._options,
                idempotency_key=row.idempotency_key or f"{run.id}/{row.number}",
                idempotency_time=run.time,
            )
        except InvalidInput as error:
            self._fail(row.number, error.code)
        except Unavailable as error:
            self._postpone(row, error)
        else:
            self._under_way += 1
            answer.add_done_callback(partial(self._answered, row))

    def _answered(self, row: Row, answer: Future[Receipt]) -> None:
        """In the uploader's thread: the checkpoint knows before anybody else does."""
        error = answer.exception()
        if error is None:
            try:
                self._checkpoint.record(row.number)
            except OSError as unwritten:
                error = unwritten
        self._answers.put((row, error))

    def _take_answer(self, *, wait_s: float) -> bool:
        """Whether there was an answer.  Raises what ends the run."""
        try:
            row, error = self._answers.get(timeout=wait_s) if wait_s else self._answers.get_nowait()
        except Empty:
            return False
        self._under_way -= 1
        match error:
            case None:
                self.acknowledged += 1
            case InvalidInput():
                self._fail(row.number, error.code)
            case Unavailable():
                self._postpone(row, error)
            case _:
                raise error
        return True

    def _postpone(self, row: Row, error: Unavailable) -> None:
        if not self._again:
            log.warning("upload_postponed", extra={"code": error.code})
        self._again.append(row)

    def _send_again(self) -> None:
        """Once each: a row that is postponed again waits for the next time."""
        if not self._again:
            return
        self._wait(_BACK_OFF_S)
        for _ in range(len(self._again)):
            self._take(self._again.popleft())

    def _fail(self, number: int, code: Code) -> None:
        self.failures[code] += 1
        self._on_failure(number, code)
