"""`upload --manifest`: progress, and the rows that failed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from erasestream.pipeline.bulk_upload.failed_rows import FailedRow, FailureFile
from erasestream.pipeline.bulk_upload.uploader import (
    OnProgress,
    Progress,
    open_checkpoint,
    upload_manifest,
)
from erasestream.pipeline.cli.console import errors, print_error, print_line
from erasestream.pipeline.settings import Settings
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.errors import CheckpointRefused, Code
from erasestream.schemas.ids import Lane
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.upload_producer import UploadProducer

MAX_SHOWN = 20
"""Failed rows on the terminal; the file beside the checkpoint has all."""


def upload_rows(
    settings: Settings,
    lane: Lane,
    manifest: Path,
    path: Path,
    options: CutoutOptions,
    *,
    resume: bool,
) -> Counter[Code]:
    """Upload a manifest with the checkpoint at `path`; return this run's failures by code."""
    failed: list[FailedRow] = []
    with (
        open_checkpoint(manifest, path, lane=lane, resume=resume, now=utc_now) as checkpoint,
        FailureFile.beside(path) as failures,
    ):

        def report_failure(row: FailedRow) -> None:
            failures.add(row)
            if len(failed) < MAX_SHOWN:
                failed.append(row)

        try:
            with (
                _disk_errors_refused(),
                _progress_bar() as report,
                UploadProducer(settings.cluster, lane, sealed=settings.seals(lane)) as producer,
            ):
                summary = upload_manifest(
                    manifest,
                    uploader=producer,
                    checkpoint=checkpoint,
                    options=options,
                    on_progress=report,
                    on_failure=report_failure,
                )
        finally:
            _print_failed(failed, failures.path)
    print_line(
        f"acknowledged {summary.acknowledged}, in earlier runs {summary.acknowledged_before}"
    )
    return summary.failures


def _print_failed(shown: list[FailedRow], file: Path) -> None:
    for row in shown:
        print_error(f"row {row.number}: {row.code}: {row.sentence}")
    if shown:
        print_error(f"all failed rows: {file}")


@contextmanager
def _disk_errors_refused() -> Iterator[None]:
    """Raise `Refused` if the checkpoint or the list of failed rows cannot be written."""
    try:
        yield
    except OSError as error:
        raise CheckpointRefused(error.strerror or "") from error


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    """Show a bar that ends at the number of rows; yields the function that updates it."""
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("failed {task.fields[failed]}, waiting {task.fields[waiting]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=errors) as bar:
        task = bar.add_task("", total=None, failed=0, waiting=0)

        def report(now: Progress) -> None:
            bar.update(
                task,
                total=now.rows,
                completed=now.acknowledged + now.acknowledged_before + now.failed,
                failed=now.failed,
                waiting=now.waiting,
            )

        yield report
