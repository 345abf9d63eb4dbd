"""`infer`, `route`, `sink`, `purge`, `erase`: each a process of its own, until SIGTERM."""

from collections.abc import Callable
from threading import Event
from typing import NoReturn

import typer

from erasestream.pipeline.runtime.runner import Stage, run
from erasestream.pipeline.settings import Settings, load
from erasestream.topics.catalog.roles import ERASER, PURGER, ROUTER, SINK, Role
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.tls import Identity


def infer() -> None:
    """Remove backgrounds: uploads in, cut-outs out (extra worker)."""
    from erasestream.pipeline.bootstrap.inference import run_inference

    raise typer.Exit(run_inference(load()))


def route() -> None:
    """Join results with consent: to the ephemeral topic, and to the sink if opted in."""
    from erasestream.pipeline.bootstrap.storage import RouterStage

    _run("route", RouterStage, ROUTER)


def sink() -> None:
    """Encrypt what is retained into the private bucket (extra sink)."""
    from erasestream.pipeline.bootstrap.storage import EncryptionStage

    _run("sink", EncryptionStage, SINK)


def purge() -> None:
    """Delete what is no longer needed before its time is up."""
    from erasestream.pipeline.bootstrap.storage import purger

    _run("purge", purger, PURGER)


def erase() -> None:
    """Mark what is revoked as erased, in the vault, the ledger and `erasures` (extra sink)."""
    from erasestream.pipeline.bootstrap.storage import eraser

    _run("erase", eraser, ERASER)


def _run(name: str, build: Callable[[Settings, Event], Stage], role: Role) -> NoReturn:
    settings = load()
    stage = settings.stage
    renewals: list[CertificateWatcher] = []

    def begin(stopping: Event) -> Stage:
        # What lies there before any client is made: a change in between is noticed.
        renewals[:] = [CertificateWatcher(Identity.load(settings.kafka.identities, role))]
        return build(settings, stopping)

    status = run(
        name,
        begin,
        health_port=stage.health_port,
        ready_deadline=stage.ready_deadline,
        renewed=lambda: any(each.is_due() for each in renewals),
    )
    raise typer.Exit(status)
