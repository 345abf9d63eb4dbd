"""Upload the images that a manifest lists, millions if need be, and resume after an interruption.

The promise: a row counts as done only when the brokers have acknowledged it, and then this
checkpoint never sends it again, whenever the process was killed.  A row that was in flight when
the process was killed is sent again with the same id, so it has one result.

* Rows and images are read one at a time; the uploader's own limit on waiting bytes applies.
* A row at fault (unreadable, no such file, not an image, another image under the key of an earlier
  row, ...) is a failure with a code, and the run continues.  Failures are not in the checkpoint: a
  resumed run tries them again.
* While brokers are unavailable, rows are postponed and retried.  A refusal by the brokers ends the
  run, and so does a checkpoint that cannot be written.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint, new_run
from erasestream.pipeline.bulk_upload.failed_rows import FailedRow
from erasestream.pipeline.bulk_upload.image_file import read_image
from erasestream.pipeline.bulk_upload.manifest_reader import BadRow, Row, read_rows, sha256_of
from erasestream.pipeline.bulk_upload.repeated_keys import RepeatedKeys
from erasestream.pipeline.bulk_upload.row_sender import Outcome, RowSender, Uploader
from erasestream.pipeline.runtime.retry import RETRY_S, OutageLog
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Code, InvalidInput, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.schemas.options import CutoutOptions

POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run over `rows` rows; failures are of this run."""

    rows: int
    read: int
    acknowledged: int
    acknowledged_before: int
    failed: int
    waiting: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Rows acknowledged in this run and in earlier ones, and the failures of this run by code."""

    acknowledged: int
    acknowledged_before: int
    failures: Counter[Code] = field(default_factory=Counter)


def upload_manifest(
    manifest: Path,
    *,
    uploader: Uploader,
    checkpoint: Checkpoint,
    options: CutoutOptions | None = None,
    on_progress: OnProgress = lambda _: None,
    on_failure: Callable[[FailedRow], None] = lambda _: None,
    wait: Callable[[float], None] = time.sleep,
) -> Summary:
    """Send every row that the checkpoint lacks; return once all are answered.

    `on_progress` is called after every row that is read or answered, `on_failure` with every row
    that is at fault.  Close the uploader before the checkpoint, also after an exception:
    acknowledgements that arrive meanwhile are recorded.
    Raises `Refused` for a wrong header line or a refusal by the brokers, `OSError` if the
    checkpoint cannot be written.
    """
    keys = RepeatedKeys.find(read_rows(manifest), manifest_bytes=manifest.stat().st_size)
    sender = RowSender(uploader=uploader, checkpoint=checkpoint, options=options)
    upload = _ManifestUpload(sender, checkpoint, keys, on_failure, wait)
    for _ in upload.run(read_rows(manifest)):
        on_progress(upload.progress())
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
    now: WallClock,
    random: Callable[[int], bytes] = os.urandom,
) -> Checkpoint:
    """Open the checkpoint of this manifest.

    With `resume` an existing checkpoint is continued or a new one begun; without, only a new one
    is begun.
    Raises `Refused` (checkpoint_refused) if one exists, is in use, or is another manifest's.
    """
    sha256 = sha256_of(manifest)
    run = new_run(lane=lane, manifest_sha256=sha256, now=now(), random=random(16))
    return Checkpoint.resume(path, run) if resume else Checkpoint.begin(path, run)


class _ManifestUpload:
    """One run over a manifest, in one thread.

    * Outcomes are handled between two rows, and postponed rows are sent again before the next
      row: so no more rows are postponed than were in flight.
    * A round sends each postponed row once; one that fails again waits for the next round.
    """

    def __init__(
        self,
        sender: RowSender,
        checkpoint: Checkpoint,
        keys: RepeatedKeys,
        on_failure: Callable[[FailedRow], None],
        wait: Callable[[float], None],
    ) -> None:
        self._sender = sender
        self._done_before = checkpoint.acknowledged
        self._keys = keys
        self._on_failure = on_failure
        self._wait = wait
        self._outage = OutageLog("upload_postponed")
        self._postponed: deque[Row] = deque()
        self._read = 0
        self.acknowledged = 0
        self.acknowledged_before = 0
        self.failures: Counter[Code] = Counter()

    def progress(self) -> Progress:
        """Return the progress so far."""
        return Progress(
            rows=self._keys.rows,
            read=self._read,
            acknowledged=self.acknowledged,
            acknowledged_before=self.acknowledged_before,
            failed=self.failures.total(),
            waiting=self._sender.in_flight + len(self._postponed),
        )

    def run(self, rows: Iterable[Row | BadRow]) -> Iterator[None]:
        """Upload the rows; yields after every row and every outcome."""
        for row in rows:
            self._read += 1
            self._begin(row)
            while self._handle_outcome(timeout_s=0.0):
                yield
            while self._postponed:
                self._retry_postponed()
                yield
            yield
        while self._sender.in_flight or self._postponed:
            self._handle_outcome(timeout_s=POLL_S)
            self._retry_postponed()
            yield

    def _begin(self, row: Row | BadRow) -> None:
        first = self._keys.conflict(row) if isinstance(row, Row) else None
        if row.number in self._done_before:
            self.acknowledged_before += 1
        elif isinstance(row, BadRow):
            self._fail(row, InvalidInput(code=Code.INVALID_ROW))
        elif first is not None:
            self._fail(row, InvalidInput(f"row {first}", code=Code.REPEATED_KEY))
        else:
            self._upload(row)

    def _upload(self, row: Row) -> None:
        image = read_image(row.path)
        match image:
            case Code():
                self._fail(row, InvalidInput(code=image))
            case bytes():
                self._send(row, image)
            case _:
                assert_never(image)

    def _send(self, row: Row, image: bytes) -> None:
        try:
            self._sender.send(row, image)
        except (InvalidInput, Unavailable) as error:
            self._handle(Outcome(row, error))

    def _handle_outcome(self, *, timeout_s: float) -> bool:
        """Handle one outcome; return whether there was any.  Raises an error that ends the run."""
        outcome = self._sender.take_outcome(timeout_s=timeout_s)
        if outcome is None:
            return False
        self._handle(outcome)
        return True

    def _handle(self, outcome: Outcome) -> None:
        row, error = outcome
        match error:
            case None:
                self.acknowledged += 1
                self._outage.end_round()
            case InvalidInput():
                self._fail(row, error)
            case Unavailable():
                self._outage.report(error)
                self._postponed.append(row)
            case _:
                raise error

    def _retry_postponed(self) -> None:
        if not self._postponed:
            return
        self._wait(RETRY_S)
        for _ in range(len(self._postponed)):
            self._upload(self._postponed.popleft())

    def _fail(self, row: Row | BadRow, error: InvalidInput) -> None:
        self.failures[error.code] += 1
        reference = row.reference if isinstance(row, Row) else None
        self._on_failure(FailedRow(row.number, reference, error.code, error.sentence))
