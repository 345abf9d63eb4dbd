"""`model`: install and list models."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from erasestream.pipeline.cli.console import CACHE, CacheOption, console, print_line
from erasestream.pipeline.cli.tables import print_rows

if TYPE_CHECKING:
    from erasestream.pipeline.stages.inference.models.install.download import (
        Progress as InstallProgress,
    )

SourceArgument = Annotated[
    str | None, typer.Argument(help="Path or https URL; by default that of the model.")
]
ModelOption = Annotated[str, typer.Option(help="isnet, ben2 or birefnet_lite.")]
ManifestOption = Annotated[Path | None, typer.Option(help="Description of another model.")]
PhotosOption = Annotated[
    Path | None, typer.Option(help="Folder of photos like yours, to calibrate and evaluate with.")
]
BuildOption = Annotated[
    str | None, typer.Option(help="Build of IS-Net: static_int8, pruned_fp32 or as_shipped.")
]
NonCommercialOption = Annotated[
    bool, typer.Option("--non-commercial", help="Confirm that the model is not used commercially.")
]

model = typer.Typer(no_args_is_help=True, help="Install and list models (extras model and worker).")


@model.command("install")
def model_install(
    source: SourceArgument = None,
    *,
    model: ModelOption = "isnet",
    manifest: ManifestOption = None,
    photos: PhotosOption = None,
    build: BuildOption = None,
    non_commercial: NonCommercialOption = False,
    cache: CacheOption = CACHE,
) -> None:
    """Fetch, check and build a model; prints its size and licence first."""
    from erasestream.pipeline.stages.inference.models.install.installer import announcement, install
    from erasestream.pipeline.stages.inference.models.isnet import ISNET, build_of
    from erasestream.pipeline.stages.inference.models.manifest import Manifest, Use
    from erasestream.pipeline.stages.inference.models.other_models import known
    from erasestream.pipeline.stages.inference.models.store import ModelStore

    if manifest:
        wanted = Manifest.read(manifest)
    else:
        wanted = build_of(build) if model == ISNET.name else known(model)
    store = ModelStore(cache / "models")
    if not (store.folder / wanted.label).is_dir():
        console.print(announcement(wanted), highlight=False)
    with _progress_bar() as report:
        installed = install(
            store,
            manifest=wanted,
            source=source,
            photos=photos,
            accepted=Use.NON_COMMERCIAL if non_commercial else Use.ANY,
            progress=report,
        )
    if installed.choice:
        print_line(f"build {installed.choice.build}: {installed.choice.reason}")
    print_line(f"{installed.manifest.label} is installed in {installed.folder}")


@contextmanager
def _progress_bar() -> "Iterator[InstallProgress]":
    """Show a bar; yields the function that updates it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, amount="")

        def report(step: str, *, done: int, total: int) -> None:
            progress.update(
                task,
                description=step,
                completed=done,
                total=total or None,
                amount=_amount(step, done, total),
            )

        yield report


def _amount(step: str, done: int, total: int) -> str:
    """Return the progress of a step, in photos or megabytes."""
    if step in {"calibrating", "judging"}:
        return f"photo {done + 1} of {total}"
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""


@model.command("list")
def model_list(*, cache: CacheOption = CACHE) -> None:
    """List the installed models."""
    from erasestream.pipeline.stages.inference.models.store import (
        RECORD_FILE,
        Installed,
        ModelStore,
    )

    rows = []
    for record in sorted(ModelStore(cache / "models").folder.glob(f"*/{RECORD_FILE}")):
        installed = Installed.read(record.parent)
        manifest = installed.manifest
        build = installed.choice.build if installed.choice else manifest.build
        rows.append(
            (manifest.name, manifest.version, build, installed.sha256[:16], manifest.licence)
        )
    print_rows(("name", "version", "build", "sha256", "licence"), rows)
