"""`key`: issue, list and revoke the API keys of a lane's accounts."""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from erasestream.pipeline.bootstrap.credentials import credential_table, open_credential_writer
from erasestream.pipeline.cli.console import AccountArgument, LaneOption, print_error, print_line
from erasestream.pipeline.cli.tables import print_rows
from erasestream.pipeline.settings import load
from erasestream.schemas.errors import AccountClosed
from erasestream.schemas.events.credentials import MAX_LABEL, CredentialKind
from erasestream.schemas.ids import Lane
from erasestream.topics.consent.reader import validated
from erasestream.topics.credentials.table import Credential
from erasestream.topics.credentials.token import parse_token, prefix

key = typer.Typer(
    no_args_is_help=True, help="Issue, list and revoke API keys, as the lane's role `account`."
)


@key.command()
def create(
    account: AccountArgument,
    lane: LaneOption,
    *,
    kind: Annotated[
        CredentialKind,
        typer.Option(help="image: send and fetch images. owner: sign in to the account page."),
    ] = CredentialKind.IMAGE,
    label: Annotated[str, typer.Option(help="A name of your own, up to 64 characters.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days until it expires; never by default.")
    ] = None,
) -> None:
    """Issue a key and print it, this once: only its digest is stored."""
    if len(label) > MAX_LABEL:
        raise typer.BadParameter(f"--label: at most {MAX_LABEL} characters")
    lifetime, settings = None if days is None else timedelta(days=days), load()
    with credential_table(settings, Lane(lane)) as table:
        if table.is_closed(validated(account)):
            raise AccountClosed
    with open_credential_writer(settings, Lane(lane)) as writer:
        token = writer.create(account, kind, label=label, lifetime=lifetime)
    print_line(token.text)
    print_error("This is shown once: keep it like a password.")


@key.command("list")
def list_keys(account: AccountArgument, lane: LaneOption) -> None:
    """List the keys of an account, by the beginning of each."""
    with credential_table(load(), Lane(lane)) as table:
        found = table.of_account(validated(account))
    print_rows(("key", "label", "since", "expires", "revoked", "last use"), map(_row, found))


@key.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(help="The beginning of the key, from `key list`, its id, or all of it.")
    ],
    lane: LaneOption,
) -> None:
    """Revoke a key, for good: every gateway refuses it as soon as it has read so."""
    settings, name = load(), id_of(key_id)
    with credential_table(settings, Lane(lane)) as table:
        credential = table.get(name)
    with open_credential_writer(settings, Lane(lane)) as writer:
        writer.revoke(credential)
    print_line("revoked")


def id_of(text: str) -> str:
    """Return the id in a key, in its beginning, or alone."""
    token = parse_token(text)
    return text.rsplit("_", maxsplit=1)[-1] if token is None else token.key_id


def _row(each: Credential) -> tuple[str, ...]:
    state = each.state
    return (
        prefix(state.kind, state.key_id),
        state.label,
        state.created_at.date().isoformat(),
        _day(state.expires_at),
        _day(state.revoked_at or each.closed_at),
        each.used_on.isoformat() if each.used_on else "",
    )


def _day(time: datetime | None) -> str:
    return time.date().isoformat() if time else ""
