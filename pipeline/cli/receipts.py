"""`receipt`: verify receipts of erasures, decisions and destroyed keys."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import print_line

receipt = typer.Typer(
    no_args_is_help=True, help="Receipts from the transparency log, to verify offline (extra sink)."
)

LogKey = Annotated[str, typer.Option("--log-key", help="Public key of the log, or a file with it.")]
AuditorKey = Annotated[
    str, typer.Option("--auditor-key", help="Public key of the auditor, or a file with it.")
]
MAX_FILE_BYTES = 1024 * 1024


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
    from erasestream.sinks.log.proof_file import checkpoint_in
    from erasestream.sinks.log.receipt import verify_receipt
    from erasestream.sinks.log.signed_note import PublicKey

    log, auditor = PublicKey.parse(_text(log_key)), PublicKey.parse(_text(auditor_key))
    before = open_checkpoint(checkpoint_in(_read(seen)), log).checkpoint if seen else None
    verified = verify_receipt(_read(file), log, auditor, seen=before)
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


def _text(key: str) -> str:
    """Return a key that is given as text or as a file."""
    return key if "+" in key else _read(Path(key)).decode(errors="replace")
