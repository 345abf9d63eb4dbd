"""What all commands share: the terminal, and options that several have."""

import getpass
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()
"""For what was asked for; goes to standard output."""

errors = Console(stderr=True)
"""For everything else."""


def operator() -> str:
    """Who types, by the name of the login, as the ledger names actors."""
    return f"operator:{re.sub('[^A-Za-z0-9_.-]', '', getpass.getuser())[:50]}"


def say(line: str) -> None:
    """One line of what was asked for, never wrapped: others may read it by a program."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


LaneOption = Annotated[str, typer.Option("--lane", "-l", help="The lane of the upstream service.")]
AccountArgument = Annotated[str, typer.Argument(help="The account's opaque id.")]
CacheOption = Annotated[
    Path,
    typer.Option(
        envvar="ERASESTREAM_CACHE", help="Folder that Kafka's jars and the models are kept in."
    ),
]
CACHE = Path(".cache")
