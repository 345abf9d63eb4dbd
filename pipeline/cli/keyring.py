"""`keyring`: create the grants' master key (extra sink)."""

import typer

from erasestream.pipeline.cli.console import print_line
from erasestream.pipeline.settings import load

keyring = typer.Typer(no_args_is_help=True, help="The grants' master key (extra sink).")


@keyring.command()
def create() -> None:
    """Create the master key that the settings name: a folder, or a key in Cloud KMS (extra kms)."""
    from erasestream.pipeline.bootstrap.keyring import create_keyring
    from erasestream.pipeline.bootstrap.storage import storage_of

    settings = load()
    storage, within = storage_of(settings), settings.rotation.destroyed_within
    print_line(f"created: {create_keyring(storage, destroyed_within=within)}")
