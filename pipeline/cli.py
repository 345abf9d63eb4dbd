"""The command `erasestream`: every command in its place."""

import typer

from erasestream.pipeline.commands import consent, demo, dev, setup, stages, traffic

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
app.command(rich_help_panel="Images")(traffic.upload)
app.command(rich_help_panel="Images")(traffic.results)
app.command(rich_help_panel="Set-up")(setup.provision)
app.command(rich_help_panel="Set-up")(setup.repair)
app.command(rich_help_panel="Set-up")(setup.topics)
app.command(rich_help_panel="Set-up")(setup.schemas)
app.command(rich_help_panel="Set-up")(setup.codes)
app.add_typer(setup.model, name="model", rich_help_panel="Set-up")
app.add_typer(consent.consent, name="consent", rich_help_panel="Owners")
app.add_typer(consent.retained, name="retained", rich_help_panel="Owners")
app.command(rich_help_panel="Playing")(demo.demo)
app.add_typer(dev.dev, name="dev", rich_help_panel="Playing")
