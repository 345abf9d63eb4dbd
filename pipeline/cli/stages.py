"""Run one stage as this process, until SIGTERM: `infer`, `route`, `sink`, `purge`, and so on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from threading import Event
from typing import NoReturn

import typer

from erasestream.pipeline.runtime.json_logging import log_to_stderr
from erasestream.pipeline.runtime.kept import Kept
from erasestream.pipeline.runtime.runner import Stage, run
from erasestream.pipeline.settings import Settings, load
from erasestream.topics.catalog.roles import ERASER, PURGER, ROTATOR, ROUTER, SINK, Role
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection


def infer() -> None:
    """Remove backgrounds: uploads in, cut-outs out (extra worker)."""
    from erasestream.pipeline.bootstrap.inference import run_inference

    log_to_stderr()
    raise typer.Exit(run_inference(load()))


def route() -> None:
    """Join results with consent: to the ephemeral topic, and to the sink if opted in."""
    from erasestream.pipeline.bootstrap.routing import router_decisions, router_stage

    settings = _load()
    with closing(Kept(partial(router_decisions, settings))) as decisions:
        _run("route", partial(router_stage, decisions=decisions), ROUTER, settings)


def sink() -> None:
    """Encrypt retained pictures into the private bucket (extra sink)."""
    from erasestream.pipeline.bootstrap.encryption import encryption_stage, sink_decisions

    settings = _load()
    with closing(Kept(partial(sink_decisions, settings))) as decisions:
        _run("sink", partial(encryption_stage, decisions=decisions), SINK, settings)


def purge() -> None:
    """Delete records that are no longer needed, before they expire."""
    from erasestream.pipeline.bootstrap.purge import purger_stage

    _run("purge", purger_stage, PURGER, _load())


def erase() -> None:
    """Mark revoked grants as erased, and delete their keys and objects (extra sink)."""
    from erasestream.pipeline.bootstrap.erasure import eraser_stage

    _run("erase", eraser_stage, ERASER, _load())


def attest() -> None:
    """Write receipts of decisions, erasures and dead keys into a transparency log (extra sink)."""
    from erasestream.pipeline.bootstrap.receipts import receipt_stage

    _run("attest", receipt_stage, ERASER, _load())


def rotate() -> None:
    """Rotate the grants' master key, and destroy its older versions (extra sink)."""
    from erasestream.pipeline.bootstrap.rotation import rotation_stage

    _run("rotate", rotation_stage, ROTATOR, _load())


def keys() -> None:
    """Give out the keys of epochs, and destroy each in time (extra sink)."""
    from erasestream.pipeline.bootstrap.keys import key_service_stage

    # The stage renews its certificates itself, without dropping connections.
    _run("keys", key_service_stage, None, _load())


def gateway() -> None:
    """Serve customers without a Kafka client by HTTPS (extra gateway)."""
    from erasestream.pipeline.bootstrap.gateway import gateway_stage

    # The stage and its clients renew their certificates themselves, without dropping connections.
    _run("gateway", gateway_stage, None, _load())


def _load() -> Settings:
    log_to_stderr()
    return load()


def _run(
    name: str,
    build: Callable[[Settings, Event], AbstractContextManager[Stage]],
    role: Role | None,
    settings: Settings,
) -> NoReturn:
    stage = settings.stage
    renewals: list[CertificateWatcher] = []

    def begin(stopping: Event) -> AbstractContextManager[Stage]:
        # Read before any client is made, so that a change in between is noticed.
        if role is not None:
            connection = Connection(cluster=settings.cluster, role=role)
            renewals[:] = [CertificateWatcher(connection.identity)]
        return build(settings, stopping)

    status = run(
        name,
        begin,
        health_port=stage.health_port,
        ready_deadline=stage.ready_deadline,
        renewed=lambda: any(each.is_due() for each in renewals),
    )
    raise typer.Exit(status)
