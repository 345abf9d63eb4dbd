"""`demo`: run the whole pipeline once with real photos and write a report (extra dev)."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from erasestream.pipeline.cli.console import CACHE, CacheOption, console, print_line

if TYPE_CHECKING:
    from erasestream.pipeline.demo.run import Outcome, Serving

SOME_CHECK_FAILED = 1
CHECK_EVERY_S = 1.0


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
    """Send real photos through the whole pipeline, inspect what is stored where, and report it.

    Then the gateway serves until Ctrl-C; without a terminal, or with CI in the environment, the
    demo ends at once.
    """
    from erasestream.pipeline.demo.photos import packaged_photos, photos_of
    from erasestream.pipeline.demo.run import run_demo
    from erasestream.pipeline.demo.terminal import Terminal

    # As Ctrl-C does: unwinding stops everything that was started.
    signal.signal(signal.SIGTERM, _interrupt)
    photos = photos_of(images, print_line) if images else packaged_photos()
    with Terminal(console) as terminal:

        def serve(serving: "Serving") -> None:
            terminal.finish()
            _show(serving.outcome)
            if is_attended():
                serve_until_interrupted(serving)

        outcome = run_demo(
            photos=photos,
            output=output,
            cache=cache,
            model=model,
            models=cache / "models",
            progress=terminal,
            serve=serve,
        )
    raise typer.Exit(0 if all(check.holds for check in outcome.checks) else SOME_CHECK_FAILED)


def _show(outcome: "Outcome") -> None:
    for check in outcome.checks:
        if not check.holds:
            print_line(f"does not hold: {check.sentence} ({check.detail})")
    holding = sum(check.holds for check in outcome.checks)
    print_line(f"{holding} of {len(outcome.checks)} checks hold. Done in {outcome.total_s:.0f} s.")
    print_line(f"Report: {outcome.report}")


def is_attended() -> bool:
    """Return whether a person is at the terminal, who can end the demo."""
    return "CI" not in os.environ and sys.stdin.isatty() and sys.stdout.isatty()


def serve_until_interrupted(serving: "Serving") -> None:
    """Say how to use the gateway, until Ctrl-C.  Raises `Refused` if a stage ends."""
    at, authority = serving.invitation.url, serving.invitation.authority
    print_line("")
    print_line(f"The gateway serves until Ctrl-C. Account page: {at}/account")
    print_line(f"Its certificate is from {authority}, which your browser does not know.")
    print_line(f"Key of the owner, to sign in: {serving.invitation.owner_key}")
    print_line(f"Key for images: {serving.invitation.image_key}")
    print_line(
        f"curl --cacert {authority} --header 'x-api-key: {serving.invitation.image_key}'"
        f" --form image_file=@photo.jpg --output cutout.png {at}/v2"
    )
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(CHECK_EVERY_S)
            serving.check()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
