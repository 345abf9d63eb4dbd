"""The command `erasestream`: registers every subcommand."""

import typer

from erasestream.pipeline.cli import (
    cluster,
    consent,
    credentials,
    demo,
    devstack,
    images,
    keyring,
    models,
    probe,
    receipts,
    reference,
    retained,
    stages,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Background removal on Kafka that can prove what it does with a customer's pixels.",
)

app.command(rich_help_panel="Stages")(stages.infer)
app.command(rich_help_panel="Stages")(stages.route)
app.command(rich_help_panel="Stages")(stages.sink)
app.command(rich_help_panel="Stages")(stages.purge)
app.command(rich_help_panel="Stages")(stages.erase)
app.command(rich_help_panel="Stages")(stages.attest)
app.command(rich_help_panel="Stages")(stages.rotate)
app.command(rich_help_panel="Stages")(stages.keys)
app.command(rich_help_panel="Stages")(stages.gateway)
app.command(rich_help_panel="Stages")(probe.probe)
app.command(rich_help_panel="Images")(images.upload)
app.command(rich_help_panel="Images")(images.results)
app.command(rich_help_panel="Set-up")(cluster.provision)
app.command(rich_help_panel="Set-up")(cluster.repair)
app.command(rich_help_panel="Set-up")(reference.topics)
app.command(rich_help_panel="Set-up")(reference.schemas)
app.command(rich_help_panel="Set-up")(reference.codes)
app.add_typer(models.model, name="model", rich_help_panel="Set-up")
app.add_typer(keyring.keyring, name="keyring", rich_help_panel="Set-up")
app.add_typer(consent.consent, name="consent", rich_help_panel="Owners")
app.add_typer(credentials.key, name="key", rich_help_panel="Owners")
app.add_typer(retained.retained, name="retained", rich_help_panel="Owners")
app.add_typer(receipts.receipt, name="receipt", rich_help_panel="Owners")
app.add_typer(receipts.log, name="log", rich_help_panel="Owners")
app.command(rich_help_panel="Playing")(demo.demo)
app.add_typer(devstack.dev, name="dev", rich_help_panel="Playing")
