"""`consent` and `retained`: the owners' decisions, and what is kept because of them."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from erasestream.pipeline.cli.console import (
    AccountArgument,
    LaneOption,
    console,
    operator,
    say,
)
from erasestream.pipeline.settings import load
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.ids import Lane
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.writer import ConsentWriter, RecordedDecision

consent = typer.Typer(no_args_is_help=True, help="Show and change what owners decided.")
retained = typer.Typer(no_args_is_help=True, help="List and open retained images (extra sink).")


def _writer(lane: str) -> ConsentWriter:
    from erasestream.pipeline.bootstrap.consent import consent_writer

    return consent_writer(load(), Lane(lane))


def _reader(lane: str) -> ConsentReader:
    from erasestream.pipeline.bootstrap.consent import consent_reader

    return consent_reader(load(), Lane(lane))


def _tell(recorded: RecordedDecision) -> None:
    if not recorded.written:
        say(f"granted already, since {recorded.at.isoformat()}")
    else:
        say(f"{recorded.decision}, recorded at {recorded.at.isoformat()}")


@consent.command()
def grant(account: AccountArgument, lane: LaneOption) -> None:
    """Opt an account in; operators may do this in a development stack only."""
    _tell(_writer(lane).grant(account, actor=operator(), channel=Channel.OPERATOR))


@consent.command()
def revoke(
    account: AccountArgument,
    lane: LaneOption,
    *,
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is confirmed.")] = 0,
) -> None:
    """Opt an account out."""
    writer = _writer(lane)
    recorded = writer.revoke(account, actor=operator(), channel=Channel.OPERATOR)
    _tell(recorded)
    if wait:
        writer.await_confirmed(account, recorded, timeout_s=wait)
        say("confirmed: nothing is kept under any grant of before any more")


@consent.command()
def show(account: AccountArgument, lane: LaneOption) -> None:
    """Show what stands for an account, and every decision that led to it."""
    reader = _reader(lane)
    standing = reader.active_grant(account)
    if standing:
        say(f"opted in since {standing.appended_at.isoformat()}: {standing.grant}")
    else:
        say("not opted in")
    table = Table("when", "decision", "by", "through")
    for entry in reader.history(account):
        table.add_row(entry.at.isoformat(), entry.decision, entry.actor, entry.channel)
    console.print(table)


@retained.command("list")
def retained_list() -> None:
    """List the retained pictures that the reader may open."""
    from erasestream.pipeline.bootstrap.storage import retained_reader

    with retained_reader(load()) as reader:
        for found in reader.list():
            say(f"{found.size:>10}  {found.part:<8}  {found.name}")


@retained.command("open")
def retained_open(
    name: Annotated[str, typer.Argument(help="A name from `retained list`.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write; else standard output.")
    ] = None,
) -> None:
    """Decrypt one picture as the reader."""
    from erasestream.pipeline.bootstrap.storage import retained_reader

    with retained_reader(load()) as reader:
        opened = reader.open(name)
    if output is None:
        sys.stdout.buffer.write(opened.plaintext)
    else:
        output.write_bytes(opened.plaintext)
        say(f"{opened.content_type}, {len(opened.plaintext)} bytes in {output}")
