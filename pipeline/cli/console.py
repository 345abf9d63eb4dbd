"""The terminal, and options that several commands have."""

import getpass
import math
import os
import re
import stat
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from erasestream.schemas.ids import LANE_RULE, is_lane

console = Console()
"""Standard output, for the command's result."""

errors = Console(stderr=True)
"""Standard error, for progress and errors."""


def operator() -> str:
    """Return the login name, as the ledger names actors."""
    return f"operator:{re.sub('[^A-Za-z0-9_.-]', '', getpass.getuser())[:50]}"


def print_line(line: str) -> None:
    """Print one line of the result, never wrapped, so that a program can read it."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_error(line: str) -> None:
    """Print one line to standard error, never wrapped."""
    errors.print(line, soft_wrap=True, highlight=False, markup=False)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, also over one that others could read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not a device or a pipe
            os.fchmod(descriptor, 0o600)
        file.write(data)


def seconds(value: float) -> float:
    """Return the value of an option that is a time.  Raises `BadParameter` for others."""
    if not 0 <= value < math.inf:  # false for NaN, too
        raise typer.BadParameter("a number of seconds, 0 or more")
    return value


def lane_name(value: str) -> str:
    """Return the value of an option that names a lane.  Raises `BadParameter` for others."""
    if not is_lane(value):
        raise typer.BadParameter(LANE_RULE)
    return value


def host_and_port(value: str) -> tuple[str, int]:
    """Return both parts of an address.  Raises `BadParameter` for what is none."""
    host, _, port = value.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port):
        raise typer.BadParameter("an address has the form host:port")
    return host, int(port)


LaneOption = Annotated[
    str,
    typer.Option("--lane", "-l", callback=lane_name, help="The lane of the upstream service."),
]
AccountArgument = Annotated[str, typer.Argument(help="The account's opaque id.")]
CacheOption = Annotated[
    Path,
    typer.Option(envvar="ERASESTREAM_CACHE", help="Folder for Kafka's jars and the models."),
]
CACHE = Path(".cache")
