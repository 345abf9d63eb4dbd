"""`consent`: show and change the owners' decisions."""

from typing import Annotated

import typer

from erasestream.pipeline.bootstrap.consent import (
    consent_reader,
    consent_writer,
    erasure_requests,
)
from erasestream.pipeline.cli.console import (
    AccountArgument,
    LaneOption,
    operator,
    print_line,
    seconds,
)
from erasestream.pipeline.cli.tables import print_rows
from erasestream.pipeline.settings import load
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.ids import Lane
from erasestream.topics.consent.account_erasures import AccountErasures
from erasestream.topics.consent.upload_erasures import UploadErasures
from erasestream.topics.consent.writer import RecordedDecision

consent = typer.Typer(no_args_is_help=True, help="Show and change owners' decisions.")


def _print(recorded: RecordedDecision) -> None:
    if recorded.written:
        print_line(f"{recorded.decision}, recorded at {recorded.at.isoformat()}")
    else:
        print_line(f"granted already, since {recorded.at.isoformat()}")


@consent.command()
def grant(account: AccountArgument, lane: LaneOption) -> None:
    """Opt an account in; operators may do so only in a development stack."""
    with consent_writer(load(), Lane(lane)) as writer:
        _print(writer.grant(account, actor=operator(), channel=Channel.OPERATOR))


@consent.command()
def revoke(
    account: AccountArgument,
    lane: LaneOption,
    *,
    wait: Annotated[
        float, typer.Option(callback=seconds, help="Seconds to wait for the confirmation.")
    ] = 0,
) -> None:
    """Opt an account out."""
    with consent_writer(load(), Lane(lane)) as writer:
        recorded = writer.revoke(account, actor=operator(), channel=Channel.OPERATOR)
        _print(recorded)
        if wait:
            writer.await_confirmed(account, recorded, timeout_s=wait)
            print_line(
                "confirmed: no picture that was kept under an earlier grant is opened any more"
            )


@consent.command()
def erase(
    account: AccountArgument,
    upload: Annotated[str, typer.Argument(help="The upload's id, as in its result.")],
    lane: LaneOption,
) -> None:
    """Erase what is kept of one upload of an account, as its owner, who stays opted in.

    Needs the certificate of the lane's account service.  To erase everything, use `revoke`.
    """
    with erasure_requests(load(), Lane(lane)) as requests:
        recorded = requests.request(account, upload, actor="owner", channel=Channel.LIBRARY)
    print_line(f"request {recorded.id}, recorded at {recorded.at.isoformat()}")


@consent.command()
def show(account: AccountArgument, lane: LaneOption) -> None:
    """Show the grant in force of an account, and the history of its decisions."""
    with consent_reader(load(), Lane(lane)) as reader:
        grant_in_force = reader.active_grant(account)
        history = list(reader.history(account))
    if grant_in_force:
        print_line(
            f"opted in since {grant_in_force.appended_at.isoformat()}: {grant_in_force.grant}"
        )
    else:
        print_line("not opted in")
    print_rows(
        ("when", "decision", "by", "through"),
        [(entry.at.isoformat(), entry.decision, entry.actor, entry.channel) for entry in history],
    )


@consent.command()
def erasures(account: AccountArgument, lane: LaneOption) -> None:
    """Show how far erasures of an account are: of each grant that ended, and of single uploads."""
    with consent_reader(load(), Lane(lane)) as reader:
        states = AccountErasures(reader, Lane(lane), account).now()
        uploads = UploadErasures(reader, Lane(lane), account).now()
    print_rows(
        ("grant", "recorded", "confirmed", "keys deleted", "objects left", "gone"),
        [
            (
                each.grant,
                each.recorded.isoformat(),
                *(time.isoformat() if time else "" for time in (each.confirmed, each.keys_deleted)),
                "" if each.objects is None else f"{each.objects_left} of {each.objects}",
                each.gone.isoformat() if each.gone else "",
            )
            for each in states
        ],
    )
    if uploads:
        print_rows(
            ("upload", "recorded", "confirmed", "objects", "gone"),
            [
                (
                    each.upload,
                    each.recorded.isoformat(),
                    each.confirmed.isoformat() if each.confirmed else "",
                    "" if each.objects is None else str(each.objects),
                    each.gone.isoformat() if each.gone else "",
                )
                for each in uploads
            ],
        )
