"""`demo`: run the whole pipeline once with real photos and write a report (extra dev)."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from erasestream.pipeline.cli.console import CACHE, CacheOption, console, print_line

if TYPE_CHECKING:
    from erasestream.pipeline.demo.run import Outcome, Serving
    from erasestream.pipeline.demo.visitors import Invitation

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

    end_at_ctrl_c()
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
    """Show how to use the gateway, until Ctrl-C.  Raises `Refused` if a stage ends."""
    serving.issue_receipts()
    for line in _how_to_use(serving.invitation):
        print_line(line)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(CHECK_EVERY_S)
            serving.check()


def _how_to_use(invitation: "Invitation") -> Iterator[str]:
    """Yield the lines; each command works as it is, in another terminal and the same folder."""
    at, authority = invitation.url, shlex.quote(str(invitation.authority))
    photo = shlex.quote(f"image_file=@{invitation.photo}")
    program = shlex.quote(sys.argv[0])
    yield ""
    yield "The gateway serves until Ctrl-C."
    yield ""
    yield "Cut out a photo, in another terminal:"
    yield (
        f"    curl --fail-with-body --cacert {authority}"
        f" --header 'x-api-key: {invitation.image_key}'"
        f" --form {photo} --output cutout.png {at}/v2"
    )
    yield ""
    yield f"Account page: {at}/account"
    yield f"    Sign in with the owner's key: {invitation.owner_key}"
    yield "    The browser does not know the authority of its certificate, and warns: go on."
    yield ""
    yield "Verify a receipt that you have downloaded from the account page, also later and offline:"
    yield (
        f"    {program} receipt verify RECEIPT"
        f" --log-key {invitation.log_key} --auditor-key {invitation.auditor_key}"
    )


def end_at_ctrl_c() -> None:
    """Unwind at Ctrl-C and at SIGTERM, which stops everything that was started.

    An impatient second one does not interrupt that.
    """

    def unwind(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, unwind)
