"""`demo`: the whole pipeline once, with real photos, and a report (extra dev)."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import CACHE, CacheOption, console, say

SOME_CHECK_FAILED = 1


def demo(
    *,
    images: Annotated[
        Path | None, typer.Option(help="Folder with photos; by default some that come with it.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for report and results.")] = Path("demo"),
    model: Annotated[str, typer.Option(help="An installed model.")] = "isnet",
    cache: CacheOption = CACHE,
) -> None:
    """Send real photos through the whole pipeline, look at what lies where, and report it."""
    from erasestream.pipeline.demo.photos import packaged_photos, photos_of
    from erasestream.pipeline.demo.run import run_demo
    from erasestream.pipeline.demo.terminal import Terminal

    # As Ctrl-C: everything that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    photos = photos_of(images, say) if images else packaged_photos()
    with Terminal(console) as terminal:
        outcome = run_demo(
            photos=photos,
            output=output,
            cache=cache,
            model=model,
            models=cache / "models",
            viewer=terminal,
        )
    for check in outcome.checks:
        if not check.holds:
            say(f"does not hold: {check.sentence} ({check.detail})")
    holding = sum(check.holds for check in outcome.checks)
    say(f"{holding} of {len(outcome.checks)} checks hold. Done in {outcome.total_s:.0f} s.")
    say(f"Report: {outcome.report}")
    raise typer.Exit(0 if holding == len(outcome.checks) else SOME_CHECK_FAILED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
