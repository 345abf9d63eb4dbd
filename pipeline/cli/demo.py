"""`demo`: run the whole pipeline once with real photos and write a report (extra dev)."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import CACHE, CacheOption, console, print_line

SOME_CHECK_FAILED = 1


def demo(
    *,
    images: Annotated[
        Path | None, typer.Option(help="Folder with photos; by default the ones included.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the report and the results.")] = Path(
        "demo"
    ),
    model: Annotated[str, typer.Option(help="An installed model.")] = "isnet",
    cache: CacheOption = CACHE,
) -> None:
    """Send real photos through the whole pipeline, inspect what is stored where, and report it."""
    from erasestream.pipeline.demo.photos import packaged_photos, photos_of
    from erasestream.pipeline.demo.run import run_demo
    from erasestream.pipeline.demo.terminal import Terminal

    # As Ctrl-C does: unwinding stops everything that was started.
    signal.signal(signal.SIGTERM, _interrupt)
    photos = photos_of(images, print_line) if images else packaged_photos()
    with Terminal(console) as terminal:
        outcome = run_demo(
            photos=photos,
            output=output,
            cache=cache,
            model=model,
            models=cache / "models",
            progress=terminal,
        )
    for check in outcome.checks:
        if not check.holds:
            print_line(f"does not hold: {check.sentence} ({check.detail})")
    holding = sum(check.holds for check in outcome.checks)
    print_line(f"{holding} of {len(outcome.checks)} checks hold. Done in {outcome.total_s:.0f} s.")
    print_line(f"Report: {outcome.report}")
    raise typer.Exit(0 if holding == len(outcome.checks) else SOME_CHECK_FAILED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
