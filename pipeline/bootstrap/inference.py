"""From settings to a running inference stage."""

import logging
import os
import signal
import ssl
import sys
import threading
import time
from datetime import timedelta
from threading import Event

from erasestream.pipeline.runtime.json_logging import Health, log_to_stderr
from erasestream.pipeline.runtime.runner import EX_OK, patiently, status_of
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.pipeline.stages.inference.worker.faust_app import InferenceStage, end_at_once
from erasestream.pipeline.stages.inference.worker.result_builder import Model, ResultBuilder
from erasestream.schemas.errors import ErasestreamError, Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.roles import INFERENCE
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES, cutouts_of, uploads_of
from erasestream.topics.kafka.certificate_watcher import LOOK_EVERY_S, CertificateWatcher
from erasestream.topics.kafka.connection import Admin, Connection
from erasestream.topics.kafka.consumer.static_membership import member_name
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.tls import Identity

log = logging.getLogger(__name__)


def run_inference(settings: Settings) -> int:
    """Run the stage until SIGTERM.  Returns the exit status if it can not start."""
    log_to_stderr()
    ready: list[InferenceStage] = []
    health = Health(
        port=settings.stage.health_port, ready=lambda: bool(ready) and ready[0].is_ready
    )
    log.info("starting", extra={"stage": "infer", "port": health.port})
    # Until Faust has handlers of its own.  What was begun before is nothing that must be finished.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(EX_OK))
    try:
        status = _run(settings, ready)
    except SystemExit as ending:
        if ending.code == EX_OK:
            log.info("ended", extra={"stage": "infer"})
        raise
    return status


def _run(settings: Settings, ready: list[InferenceStage]) -> int:
    deadline_s = settings.stage.ready_deadline.total_seconds()
    try:
        stage = patiently(lambda _: _build(settings), Event(), time.monotonic() + deadline_s)
    except ErasestreamError as error:
        log.error("ended", extra={"stage": "infer", "code": error.code, "reason": error.sentence})  # noqa: TRY400
        return status_of(error)
    if stage is not None:
        ready.append(stage)
        _watch(stage, deadline_s)
        stage.run()
    return EX_OK


def _build(settings: Settings) -> InferenceStage:
    catalog = settings.catalog()
    inference = settings.inference
    if inference is None:
        raise Refused("settings: the section inference is missing")
    connection = Connection(cluster=settings.cluster, role=INFERENCE)
    admin = connection.admin(timeout_s=settings.stage.answer_timeout_s)
    _check(admin, catalog.lane_names)
    installed = ModelStore(inference.models).find(inference.model)
    children = inference.children or len(os.sched_getaffinity(0))
    pool = ProcessPool(
        model=installed,
        children=children,
        deadline_s=inference.deadline.total_seconds(),
        isolation=inference.isolation,
        enforcement=inference.enforcement,
        limits=Limits(max_bytes=inference.max_image_bytes, max_pixels=inference.max_pixels),
    )
    maker = ResultBuilder(
        cut_out=pool.cut_out,
        model=Model(
            name=installed.manifest.name,
            sha256=installed.sha256,
            version=installed.manifest.version,
        ),
        backlog_limits={
            spec.name: timedelta(seconds=spec.times.backlog_limit_s) for spec in catalog.lanes
        },
    )
    tls = connection.identity.ssl_context()
    _renew(tls, connection.identity)
    return InferenceStage(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        tls=tls,
        lanes=catalog.lane_names,
        maker=maker,
        children=children,
        topic_ids=admin.topic_ids,
        max_record_bytes=MAX_RECORD_BYTES,
        member=_member(settings, connection, catalog.lane_names),
        start=pool.start,
        close=pool.close,
    )


def _check(admin: Admin, lanes: tuple[Lane, ...]) -> None:
    read, write = (Operation.READ,), (Operation.WRITE,)
    admin.check_rights(
        {uploads_of(lane): read for lane in lanes} | {cutouts_of(lane): write for lane in lanes}
    )
    admin.check_group(INFERENCE, Partition(uploads_of(lanes[0]), 0))


def _member(settings: Settings, connection: Connection, lanes: tuple[Lane, ...]) -> str | None:
    """The name of this worker in its group, if it was given one: else all have the default."""
    if "instance" not in settings.stage.model_fields_set:
        return None
    topics = [uploads_of(lane) for lane in lanes]
    return member_name(connection, instance=settings.stage.instance, topics=topics)


def _renew(tls: ssl.SSLContext, identity: Identity) -> None:
    """Put a renewed certificate into the context: connections from then on are made with it.

    Faust and its client keep the context, so nothing has to be made anew.
    """
    renewal = CertificateWatcher(identity)

    def look() -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            if not renewal.is_due():
                continue
            while not _is_loaded(tls, identity):
                time.sleep(LOOK_EVERY_S)
            log.info("certificate_renewed", extra={"stage": "infer"})

    threading.Thread(target=look, name="renewal", daemon=True).start()


def _is_loaded(tls: ssl.SSLContext, identity: Identity) -> bool:
    try:
        tls.load_verify_locations(identity.ca)
        tls.load_cert_chain(identity.certificate, identity.key)
    except (OSError, ssl.SSLError):
        return False  # it is being written again; the context keeps what it had
    return True


def _watch(stage: InferenceStage, deadline_s: float) -> None:
    """End the process when it could not work for so long: Faust waits for ever, and is silent."""

    def look() -> None:
        worked_at = time.monotonic()
        while time.monotonic() - worked_at < deadline_s:
            time.sleep(1)
            if stage.is_at_work:
                worked_at = time.monotonic()
        end_at_once(Unavailable(f"no partitions from the group, or no child, for {deadline_s:g} s"))

    threading.Thread(target=look, name="watch", daemon=True).start()
