"""`upload` and `results`: send images, receive cut-outs."""

import hashlib
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from erasestream.pipeline.bulk_upload.image_file import read_image
from erasestream.pipeline.cli import cutout_options
from erasestream.pipeline.cli.console import (
    LaneOption,
    print_error,
    print_line,
    seconds,
    write_private,
)
from erasestream.pipeline.cli.manifest import upload_rows
from erasestream.pipeline.settings import Settings, load
from erasestream.schemas.errors import SENTENCES, Code, ErasestreamError
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import Lane, UploadId, derived_uuid, is_uuid
from erasestream.schemas.options import (
    Channels,
    CutoutOptions,
    Edges,
    OutputFormat,
    OwnAlpha,
    Size,
)
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_builder import checked_options
from erasestream.topics.client.upload_producer import UploadProducer

EXTENSIONS = {
    "image/png": "png",
    "image/webp": "webp",
    "image/jpeg": "jpg",
    "application/zip": "zip",
}
SOME_FAILED = 1
MAX_REFERENCE = 128
WAIT_S = 60.0
"""Timeout of one poll; waiting goes on without `--wait`."""

ManifestOption = Annotated[
    Path | None, typer.Option(help="CSV or JSON lines: path, account, reference, idempotency_key.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue an interrupted upload.")]
CheckpointOption = Annotated[
    Path | None, typer.Option(help="By default the manifest's path with .checkpoint appended.")
]


def upload(
    lane: LaneOption,
    files: Annotated[list[Path] | None, typer.Argument(help="Images to send.")] = None,
    *,
    account: Annotated[str, typer.Option(help="The owner's opaque id, for FILES.")] = "",
    manifest: ManifestOption = None,
    resume: ResumeOption = False,
    checkpoint: CheckpointOption = None,
    format: cutout_options.Format = OutputFormat.PNG,  # noqa: A002
    channels: cutout_options.Channels = Channels.RGBA,
    size: cutout_options.Size = Size.AUTO,
    max_dimension: cutout_options.MaxDimension = None,
    crop: cutout_options.Crop = False,
    crop_margin: cutout_options.CropMargin = None,
    bg_color: cutout_options.BgColor = None,
    quality: cutout_options.Quality = None,
    edges: cutout_options.Edges = Edges.CLEAN,
    own_alpha: cutout_options.OwnAlpha = OwnAlpha.AUTO,
) -> None:
    """Send images, a few or millions; ends once the brokers have acknowledged all of them."""
    options = checked_options(
        {
            "format": format,
            "channels": channels,
            "size": size,
            "max_dimension": max_dimension,
            "crop": crop,
            "crop_margin": crop_margin,
            "bg_color": bg_color,
            "quality": quality,
            "edges": edges,
            "own_alpha": own_alpha,
        }
    )
    settings = load()
    if bool(files) == (manifest is not None):
        raise typer.BadParameter("give either FILES or --manifest")
    if manifest is not None:
        path = checkpoint or manifest.with_suffix(manifest.suffix + ".checkpoint")
        failures = upload_rows(settings, Lane(lane), manifest, path, options, resume=resume)
    else:
        failures = _upload_files(settings, Lane(lane), files or [], account, options)
    for code, count in sorted(failures.items()):
        print_error(f"{count:>8}  {code}")
    raise typer.Exit(SOME_FAILED if failures else 0)


def _upload_files(
    settings: Settings, lane: Lane, files: list[Path], account: str, options: CutoutOptions
) -> Counter[Code]:
    failures: Counter[Code] = Counter()
    with UploadProducer(settings.cluster, lane, sealed=settings.seals(lane)) as producer:
        for path in files:
            image = read_image(path)
            if isinstance(image, Code):
                failures[image] += 1
                print_error(f"{path.name}: {SENTENCES[image]}")
                continue
            reference = path.name[-MAX_REFERENCE:]
            try:
                sent = producer.send(image, account=account, reference=reference, options=options)
                print_line(f"{sent.result().upload_id}  {path.name}")
            except ErasestreamError as error:
                failures[error.code] += 1
                print_error(f"{path.name}: {error.sentence}")
    return failures


def results(
    lane: LaneOption,
    *,
    group: Annotated[str, typer.Option(help="Readers of one group share the results.")] = "cli",
    save: Annotated[
        Path | None, typer.Option(help="Folder to write cut-outs to, each 0600.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="End after this many results; 0: never.")] = 0,
    wait: Annotated[
        float,
        typer.Option(
            callback=seconds, help="End after this many seconds without a result; 0: never."
        ),
    ] = 0,
) -> None:
    """Show results as they arrive, and save the cut-outs.

    A line for each: id, account, reference, and the cut-out or why there is none.
    """
    settings = load()
    if save is not None:
        _make_folder(save)
    seen = 0
    with ResultSubscription(settings.cluster, Lane(lane), group=group) as subscription:
        signal.signal(signal.SIGTERM, lambda *_: subscription.stop())
        while not subscription.is_stopped and (not count or seen < count):
            delivery = subscription.poll(wait or WAIT_S)
            if delivery is not None:
                _show(delivery, save)
                delivery.ack()
                seen += 1
            elif wait:
                break


def file_stem(upload_id: UploadId) -> str:
    """Return the id itself only if it is a UUID: another client's may be a path."""
    if is_uuid(upload_id):
        return upload_id
    return derived_uuid(hashlib.sha256(upload_id.encode()).digest())


def _make_folder(save: Path) -> None:
    try:
        save.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise typer.BadParameter(f"--save {save}: {error.strerror}: name a folder") from error


def _write(file: Path, data: bytes) -> None:
    try:
        write_private(file, data)
    except OSError as error:
        raise typer.BadParameter(f"--save {file}: {error.strerror}") from error


def _show(delivery: Delivery, save: Path | None) -> None:
    event = delivery.event
    match event:
        case Cutout():
            path = ""
            if save is not None:
                file = save / f"{file_stem(event.id)}.{EXTENSIONS.get(event.content_type, 'bin')}"
                _write(file, event.data)
                path = os.fspath(file)
            adjusted = f" ({event.adjusted})" if event.adjusted else ""
            size = f"{len(event.data)} bytes{adjusted}"
            outcome = f"{event.content_type}  {size}  {path}"
        case Failure():
            outcome = f"{event.code}: {event.sentence}"
        case Expired():
            outcome = f"{Code.EXPIRED}: {event.sentence}"
    line = f"{event.id}  {event.account}  {event.reference or '-'}  {outcome}"
    sys.stdout.write(_printable(line) + "\n")
    sys.stdout.flush()


def _printable(line: str) -> str:
    """Escape what could move the cursor or end the line: a reference is any text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
