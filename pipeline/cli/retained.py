"""`retained`: list, open and verify retained pictures, as the reader."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erasestream.pipeline.cli.console import print_line, write_private
from erasestream.pipeline.settings import load
from erasestream.schemas.ids import GrantId

if TYPE_CHECKING:
    from erasestream.sinks.images.retained_pictures import Selection

retained = typer.Typer(
    no_args_is_help=True, help="List, open and verify retained images (extra sink)."
)

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Grants = Annotated[list[str] | None, typer.Option("--grant", help="Of this grant; repeatable.")]
Since = Annotated[
    datetime | None, typer.Option(formats=DATES, help="Stored then or later, in UTC.")
]
Before = Annotated[datetime | None, typer.Option(formats=DATES, help="Stored before, in UTC.")]


@retained.command("list")
def retained_list(grants: Grants = None, since: Since = None, before: Before = None) -> None:
    """List the retained pictures that the reader may open."""
    from erasestream.pipeline.bootstrap.storage import retained_reader

    selection = _selection(grants, since, before)
    with retained_reader(load()) as reader:
        for found in reader.list():
            if selection.includes(found):
                print_line(f"{found.size:>10}  {found.part:<8}  {found.name}")


@retained.command("open")
def retained_open(
    name: Annotated[str, typer.Argument(help="A name from `retained list`.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write (0600) instead of standard output.")
    ] = None,
) -> None:
    """Decrypt one picture as the reader."""
    from erasestream.pipeline.bootstrap.storage import retained_reader

    with retained_reader(load()) as reader:
        opened = reader.open(name)
    if output is None:
        sys.stdout.buffer.write(opened.plaintext)
    else:
        write_private(output, opened.plaintext)
        print_line(f"{opened.content_type}, {len(opened.plaintext)} bytes in {output}")


@retained.command("verify")
def retained_verify(grants: Grants = None, since: Since = None, before: Before = None) -> None:
    """Open the retained pictures, and print how many open; status 1 if one is broken."""
    from erasestream.pipeline.bootstrap.storage import retained_reader
    from erasestream.sinks.images.retained_pictures import Skipped

    with retained_reader(load()) as reader:
        pictures = reader.pictures(_selection(grants, since, before))
        for _ in pictures:
            pass
    for name in ("opened", Skipped.ERASED, Skipped.GONE, Skipped.BROKEN):
        print_line(f"{pictures.counts[name]:>10}  {name}")
    if pictures.counts[Skipped.BROKEN]:
        raise typer.Exit(1)


def _selection(
    grants: list[str] | None, since: datetime | None, before: datetime | None
) -> "Selection":
    from erasestream.sinks.images.retained_pictures import Selection

    return Selection(
        grants=frozenset(map(GrantId, grants)) if grants else None,
        since=since and since.replace(tzinfo=UTC),
        before=before and before.replace(tzinfo=UTC),
    )
