"""The command line, for operators and for people who want to play."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def route() -> None:
    from erasestream.pipeline import running, wiring
    from erasestream.pipeline.settings import load

    s = load()
    raise typer.Exit(
        running.run(
            "router",
            lambda stop: wiring.RouterStage(s, stop),
            health_port=0,
            ready_deadline=s.stage.ready_deadline,
        )
    )


@app.command()
def sink() -> None:
    from erasestream.pipeline import running, wiring
    from erasestream.pipeline.settings import load

    s = load()
    raise typer.Exit(
        running.run(
            "sink",
            lambda stop: wiring.EncryptionStage(s, stop),
            health_port=0,
            ready_deadline=s.stage.ready_deadline,
        )
    )
