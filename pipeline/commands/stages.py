"""`infer`, `route`, `sink`, `purge`, `erase`: each a process of its own, until SIGTERM."""

from collections.abc import Callable
from threading import Event
from typing import NoReturn

import typer

from erasestream.pipeline.running import Stage, run
from erasestream.pipeline.settings import Settings, load


def infer() -> None:
    """Remove backgrounds: uploads in, cut-outs out (extra worker)."""
    from erasestream.pipeline.inference.wiring import run_inference

    raise typer.Exit(run_inference(load()))


def route() -> None:
    """Join results with consent: to the ephemeral topic, and to the sink if opted in."""
    from erasestream.pipeline.wiring import RouterStage

    _run("route", RouterStage)


def sink() -> None:
    """Encrypt what is retained into the private bucket (extra sink)."""
    from erasestream.pipeline.wiring import EncryptionStage

    _run("sink", EncryptionStage)


def purge() -> None:
    """Delete what is no longer needed before its time is up."""
    from erasestream.pipeline.wiring import purger

    _run("purge", purger)


def erase() -> None:
    """Mark what is revoked as erased, in the vault and in the ledger (extra sink)."""
    from erasestream.pipeline.wiring import eraser

    _run("erase", eraser)


def _run(name: str, build: Callable[[Settings, Event], Stage]) -> NoReturn:
    settings = load()
    stage = settings.stage
    status = run(
        name,
        lambda stopping: build(settings, stopping),
        health_port=stage.health_port,
        ready_deadline=stage.ready_deadline,
    )
    raise typer.Exit(status)
