"""`retained`: list and open retained pictures, as the reader."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import print_line, write_private
from erasestream.pipeline.settings import load

retained = typer.Typer(no_args_is_help=True, help="List and open retained images (extra sink).")


@retained.command("list")
def retained_list() -> None:
    """List the retained pictures that the reader may open."""
    from erasestream.pipeline.bootstrap.storage import retained_reader

    with retained_reader(load()) as reader:
        for found in reader.list():
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
