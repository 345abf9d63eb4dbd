"""The command `erasestream` and its subcommands, each imported when it is needed.

A process imports its own subcommand only: all of them take half as long again to start a stage.
"""

from collections.abc import Sequence
from importlib import import_module

import typer

_FOLDER = "erasestream.pipeline.cli"

_PANELS = {
    "Stages": {
        "infer": "stages.infer",
        "route": "stages.route",
        "sink": "stages.sink",
        "purge": "stages.purge",
        "erase": "stages.erase",
        "attest": "stages.attest",
        "rotate": "stages.rotate",
        "keys": "stages.keys",
        "gateway": "stages.gateway",
        "probe": "probe.probe",
    },
    "Images": {"upload": "images.upload", "results": "images.results"},
    "Set-up": {
        "provision": "cluster.provision",
        "repair": "cluster.repair",
        "topics": "reference.topics",
        "schemas": "reference.schemas",
        "codes": "reference.codes",
        "model": "models.model",
        "keyring": "keyring.keyring",
    },
    "Owners": {
        "consent": "consent.consent",
        "key": "credentials.key",
        "retained": "retained.retained",
        "receipt": "receipts.receipt",
        "log": "receipts.log",
    },
    "Playing": {"demo": "demo.demo", "dev": "devstack.dev"},
}
"""By panel of the help, the subcommands: module and function, or group of commands."""


def app_for(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command with the one subcommand that these arguments name, or else with all."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Background removal on Kafka that can prove what it does with a customer's pixels.",
    )
    app.callback()(_subcommands_follow)
    named = arguments[0] if arguments else ""
    is_known = any(named in subcommands for subcommands in _PANELS.values())
    for panel, subcommands in _PANELS.items():
        for name, place in subcommands.items():
            if name == named or not is_known:
                _register(app, name, place, panel)
    return app


def _subcommands_follow() -> None:
    # With a callback, the only subcommand keeps its name.
    return


def _register(app: typer.Typer, name: str, place: str, panel: str) -> None:
    module, _, attribute = place.partition(".")
    subcommand = getattr(import_module(f"{_FOLDER}.{module}"), attribute)
    if isinstance(subcommand, typer.Typer):
        app.add_typer(subcommand, name=name, rich_help_panel=panel)
    else:
        app.command(name, rich_help_panel=panel)(subcommand)
