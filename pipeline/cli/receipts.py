"""`receipt`: get and verify receipts.  `log`: cosign, copy and verify the log that has them."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import (
    AccountArgument,
    LaneOption,
    print_error,
    print_line,
    seconds,
    write_private,
)
from erasestream.pipeline.settings import Settings, load
from erasestream.schemas.errors import NotFound, Unavailable
from erasestream.schemas.ids import Lane

log = typer.Typer(no_args_is_help=True, help="The transparency log (extra sink).")
receipt = typer.Typer(
    no_args_is_help=True, help="Receipts from the transparency log, to verify offline (extra sink)."
)

LogKey = Annotated[str, typer.Option("--log-key", help="Public key of the log, or a file with it.")]
AuditorKey = Annotated[
    str, typer.Option("--auditor-key", help="Public key of the auditor, or a file with it.")
]
MAX_FILE_BYTES = 1024 * 1024


@receipt.command("get")
def receipt_get(
    account: AccountArgument,
    lane: LaneOption,
    output: Annotated[Path, typer.Option(help="Folder to write to, a file (0600) per receipt.")],
) -> None:
    """Write all receipts of an account: of its decisions, and of what was erased."""
    from erasestream.pipeline.bootstrap.receipts import attested_about, receipt_issuer
    from erasestream.sinks.log.proof_file import SUFFIX

    settings = load()
    attested = attested_about(settings, Lane(lane), account)
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    waiting = 0
    with receipt_issuer(settings) as issuer:
        for each in attested:
            raw = issuer.issue(each)
            if raw is None:
                waiting += 1
                continue
            path = output / f"{each.leaf.kind}-{each.leaf.id}{SUFFIX}"
            write_private(path, raw)
            print_line(str(path))
    if waiting:
        print_error(f"{waiting} more when the auditor has cosigned them: try again later")


@receipt.command("verify")
def receipt_verify(
    file: Annotated[Path, typer.Argument(help="A receipt (.tlog-proof).")],
    log_key: LogKey,
    auditor_key: AuditorKey,
    seen: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or receipt from before; an older log is refused."),
    ] = None,
) -> None:
    """Verify a receipt offline, and print what it proves."""
    from erasestream.sinks.log.checkpoint import open_checkpoint
    from erasestream.sinks.log.key_files import public_key
    from erasestream.sinks.log.proof_file import checkpoint_in
    from erasestream.sinks.log.receipt import verify_receipt

    key, auditor = public_key(log_key), public_key(auditor_key)
    before = open_checkpoint(checkpoint_in(_read(seen)), key).checkpoint if seen else None
    verified = verify_receipt(_read(file), key, auditor, seen=before)
    for name, value in verified.leaf.model_dump(mode="json", exclude_none=True).items():
        shown = "; ".join(value) if isinstance(value, list) else value
        print_line(f"{name}: {shown}")
    if verified.extra.account is not None:
        print_line(f"account: {verified.extra.account} of {verified.extra.lane}")
    checkpoint, time_s = verified.log
    print_line(
        f"verified: leaf {verified.leaf_index} of {checkpoint.size} in {checkpoint.origin},"
        f" cosigned by {auditor.name} {datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    )


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_FILE_BYTES)


@log.command("keys")
def log_keys(
    folder: Annotated[Path, typer.Argument(help="Folder for the private files (0600).")],
    name: Annotated[str, typer.Option(help="Name of the log, such as log.example/erasestream.")],
    auditor: Annotated[str, typer.Option(help="Name of the auditor.")],
) -> None:
    """Make the keys of a new log and its auditor, and print the public ones."""
    from erasestream.sinks.log.key_files import make_keys

    for setting, value in make_keys(folder, log=name, auditor=auditor).items():
        print_line(f"{setting} = {json.dumps(value)}")


def _pause(value: float | None) -> float | None:
    return None if value is None else seconds(value)


@log.command("cosign")
def log_cosign(
    *,
    every: Annotated[
        float | None,
        typer.Option(callback=_pause, help="Repeat, with a pause of so many seconds."),
    ] = None,
) -> None:
    """Cosign the log as its auditor, after a look at what receipts report as gone."""
    settings = load()
    if every is None:
        print_line(_cosign(settings) or "nothing new")
        return
    while True:
        try:
            cosigned = _cosign(settings)
        except Unavailable as error:
            print_error(error.sentence)
        else:
            if cosigned:
                print_line(cosigned)
        time.sleep(every)


def _cosign(settings: Settings) -> str | None:
    """Return what was cosigned; None if there was nothing new."""
    from erasestream.pipeline.bootstrap.receipts import cosigner

    with cosigner(settings) as auditor:
        cosigned = auditor.cosign()
    return f"{cosigned.size} leaves cosigned" if cosigned else None


@log.command("copy")
def log_copy(folder: Annotated[Path, typer.Argument(help="Folder, for anyone to read.")]) -> None:
    """Copy what was cosigned of the log into a folder, or what was added since the last copy."""
    from erasestream.pipeline.bootstrap.receipts import log_reader, receipts_of
    from erasestream.sinks.log.key_files import public_key
    from erasestream.sinks.log.log_folder import copy_log

    settings = load()
    keys = receipts_of(settings)
    with log_reader(settings) as reader:
        newest = reader.newest(public_key(keys.auditor_key))
        if newest is None:
            raise NotFound("the auditor has not cosigned the log yet")
        copy_log(newest, reader.read, folder, public_key(keys.log_key))
    print_line(f"{newest.checkpoint.size} leaves in {folder}")


@log.command("verify")
def log_verify(
    folder: Annotated[Path, typer.Argument(help="A copy of the log.")],
    log_key: LogKey,
    auditor_key: AuditorKey,
    since: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint or receipt from before; may be given several times."),
    ] = None,
) -> None:
    """Verify a copy of the log, offline: all its leaves, and that it has only grown."""
    from erasestream.sinks.log.checkpoint import open_checkpoint
    from erasestream.sinks.log.key_files import public_key
    from erasestream.sinks.log.log_folder import open_folder, verify_leaves
    from erasestream.sinks.log.log_reader import verify_growth
    from erasestream.sinks.log.proof_file import checkpoint_in

    key = public_key(log_key)
    copy = open_folder(folder, key, public_key(auditor_key))
    if copy is None:
        raise NotFound(f"no checkpoint in {folder}")
    verify_leaves(copy)
    for file in since or []:
        old = open_checkpoint(checkpoint_in(_read(file)), key).checkpoint
        verify_growth(old, copy)
        print_line(f"grown: from {old.size} leaves in {file.name}")
    print_line(f"verified: {copy.checkpoint.size} leaves in {copy.checkpoint.origin}")
