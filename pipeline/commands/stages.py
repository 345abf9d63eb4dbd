"""`infer`, `route`, `sink`: each a process of its own, until SIGTERM."""

import typer

from erasestream.pipeline.running import run
from erasestream.pipeline.settings import load


def infer() -> None:
    """Remove backgrounds: uploads in, cut-outs out (extra worker)."""
    from erasestream.pipeline.inference.wiring import run_inference

    raise typer.Exit(run_inference(load()))


def route() -> None:
    """Join results with consent: to the ephemeral topic, and to the sink if opted in."""
    from erasestream.pipeline.wiring import RouterStage

    settings = load()
    stage = settings.stage
    status = run(
        "route",
        lambda stopping: RouterStage(settings, stopping),
        health_port=stage.health_port,
        ready_deadline=stage.ready_deadline,
    )
    raise typer.Exit(status)


def sink() -> None:
    """Encrypt what is retained into the private bucket (extra sink)."""
    from erasestream.pipeline.wiring import EncryptionStage

    settings = load()
    stage = settings.stage
    status = run(
        "sink",
        lambda stopping: EncryptionStage(settings, stopping),
        health_port=stage.health_port,
        ready_deadline=stage.ready_deadline,
    )
    raise typer.Exit(status)
