"""Run the inference stage.  Faust runs its loop and its signal handlers, not `runtime.runner`."""

import logging
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from threading import Event, Thread

from erasestream.pipeline.bootstrap.epoch_keys import epoch_keys, sealed_lanes
from erasestream.pipeline.runtime.bounded_end import BoundedEnd
from erasestream.pipeline.runtime.cpu_quota import usable_processors
from erasestream.pipeline.runtime.health import Health
from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.pipeline.runtime.runner import BUILD_RETRY_S, EX_OK, status_of
from erasestream.pipeline.runtime.sandbox.restrictions import Enforcement, Isolation
from erasestream.pipeline.settings import InferenceSettings, LaneSettings, Settings
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.isolation.pools import Pools
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.isolation.time_limits import SlowImages
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.pipeline.stages.inference.stage import InferenceStage
from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.pipeline.stages.inference.worker.process_exit import exit_process
from erasestream.pipeline.stages.inference.worker.result_builder import (
    LaneModel,
    Model,
    ResultBuilder,
)
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import (
    CertificateRefused,
    ErasestreamError,
    MissingCertificate,
    Refused,
    Unavailable,
)
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.image_sizes import ImageSizes
from erasestream.topics.catalog.roles import INFERENCE
from erasestream.topics.catalog.topic_names import cutouts_of, uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.certificate_watcher import LOOK_EVERY_S, CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.static_membership import member_name
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.tls import Identity

log: logging.Logger = logging.getLogger(__name__)


WATCH_S = 1.0
"""Interval at which the watchdog checks that the stage is at work."""


def run_inference(settings: Settings) -> int:
    """Run the stage until SIGTERM.  Returns the exit status if it cannot start."""
    ready: list[InferenceStage] = []
    slow_images = SlowImages()
    health = Health(
        port=settings.stage.health_port,
        ready=lambda: bool(ready) and ready[0].is_ready(),
        stage="infer",
        metrics=slow_images.metrics_text,
    )
    log.info("starting", extra={"stage": "infer", "port": health.port})
    # Until Faust has handlers of its own.  Nothing started before that must be finished.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(EX_OK))
    end = BoundedEnd("infer")
    try:
        return _run(settings, ready, slow_images, end)
    except SystemExit as ending:
        if ending.code == EX_OK:
            log.info("ended", extra={"stage": "infer"})
        raise
    finally:
        health.close()


def _run(
    settings: Settings, ready: list[InferenceStage], slow_images: SlowImages, end: BoundedEnd
) -> int:
    deadline_s = settings.stage.ready_deadline.total_seconds()
    retry = RetryUntilStopped(Event(), retry_s=BUILD_RETRY_S)
    with ExitStack() as opened:
        try:
            stage = retry.call(
                lambda: opened.enter_context(inference_stage(settings, slow_images=slow_images)),
                deadline=Deadline(deadline_s, time.monotonic),
            )
        except ErasestreamError as error:
            fields = {"stage": "infer", "code": error.code, "reason": error.sentence}
            log.error("ended", extra=fields)  # noqa: TRY400
            return status_of(error)
        ready.append(stage)
        opened.enter_context(_watchdog(stage, deadline_s, end))
        stage.run(on_ending=end.begin)
    return EX_OK


@contextmanager
def inference_stage(
    settings: Settings, *, slow_images: SlowImages | None = None
) -> Iterator[InferenceStage]:
    """Open a worker; its processes start once Faust runs it.  `slow_images` counts those."""
    catalog = settings.catalog()
    inference = settings.inference
    if inference is None:
        raise Refused("settings: the section inference is missing")
    connection = Connection(cluster=settings.cluster, role=INFERENCE)
    with ExitStack() as opened:
        admin = opened.enter_context(Admin(connection, timeout_s=settings.stage.answer_timeout_s))
        _check(admin, catalog.lane_names)
        children = inference.children or usable_processors()
        models = _models_of(settings.lanes, inference)
        pools = {
            installed.folder: _process_pool(
                inference, installed, children, catalog.sizes, slow_images
            )
            for installed in models.values()
        }
        together = Pools(pools.values())
        member = _member_name(settings, connection, catalog.lane_names)
        tls = connection.identity.ssl_context()
        watcher = CertificateWatcher(connection.identity)
        keys = epoch_keys(settings, catalog, connection.identity)
        stage = InferenceStage(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            tls=tls,
            sasl=connection.identity.sasl,
            lanes=catalog.lane_names,
            builder=_result_builder(
                {lane: pools[installed.folder] for lane, installed in models.items()},
                catalog,
                keys,
            ),
            keys=keys,
            children=children,
            topic_ids=OffsetQueries(admin).topic_ids,
            max_record_bytes=max(topic.max_record_bytes for topic in catalog.topics),
            member=member,
            start=together.start,
            close=together.close,
        )
        opened.enter_context(_renewal(tls, connection.identity, watcher, stage))
        yield stage


def _models_of(
    lanes: Mapping[Lane, LaneSettings], inference: InferenceSettings
) -> dict[Lane, Installed]:
    """Return the model of each lane.  Raises `Refused` if one is not installed."""
    names = {lane: settings.model or inference.model for lane, settings in lanes.items()}
    store = ModelStore(inference.models)
    found = {name: store.find(name) for name in sorted(set(names.values()))}
    return {lane: found[name] for lane, name in names.items()}


def _process_pool(
    inference: InferenceSettings,
    installed: Installed,
    children: int,
    sizes: ImageSizes,
    slow_images: SlowImages | None,
) -> ProcessPool:
    return ProcessPool(
        model=installed,
        children=children,
        deadline_s=inference.deadline.total_seconds(),
        isolation=Isolation(inference.isolation),
        enforcement=enforcement_of(inference),
        limits=Limits(
            max_bytes=min(inference.max_image_bytes, sizes.max_upload_bytes),
            max_pixels=inference.max_pixels,
            max_result_bytes=sizes.max_cutout_bytes,
        ),
        slow_images=slow_images,
    )


def enforcement_of(inference: InferenceSettings) -> Enforcement:
    """Return whether isolation is required: yes, unless the operator dangerously allows less."""
    if inference.dangerously_run_without_isolation:
        return Enforcement.AS_FAR_AS_POSSIBLE
    return Enforcement.REQUIRED


def _check(admin: Admin, lanes: tuple[Lane, ...]) -> None:
    read, write = (Operation.READ,), (Operation.WRITE,)
    admin.check_rights(
        {uploads_of(lane): read for lane in lanes} | {cutouts_of(lane): write for lane in lanes}
    )
    GroupOffsets(admin.connection, timeout_s=admin.timeout_s).check(
        INFERENCE, Partition(uploads_of(lanes[0]), 0)
    )


def _result_builder(
    pools: Mapping[Lane, ProcessPool], catalog: Catalog, keys: EpochKeys | None = None
) -> ResultBuilder:
    return ResultBuilder(
        models={lane: LaneModel(_model(pool.model), pool.cut_out) for lane, pool in pools.items()},
        backlog_limits={
            spec.name: timedelta(seconds=spec.times.backlog_limit_s) for spec in catalog.lanes
        },
        keys=keys,
        must_be_sealed=sealed_lanes(catalog),
    )


def _model(installed: Installed) -> Model:
    manifest = installed.manifest
    return Model(name=manifest.name, sha256=installed.sha256, version=manifest.version)


def _member_name(settings: Settings, connection: Connection, lanes: tuple[Lane, ...]) -> str | None:
    """Return this worker's name in its group, None unless one was configured.

    All workers share the default instance name, which therefore names none of them.
    """
    if "instance" not in settings.stage.model_fields_set:
        return None
    topics = [uploads_of(lane) for lane in lanes]
    return member_name(connection, instance=settings.stage.instance, topics=topics)


@contextmanager
def _thread(name: str, loop: Callable[[Event], None]) -> Iterator[None]:
    """Run a loop in a thread until the event that it is given is set."""
    stopped = Event()
    thread = Thread(target=loop, args=[stopped], name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def _renewal(
    tls: ssl.SSLContext, identity: Identity, watcher: CertificateWatcher, stage: InferenceStage
) -> Iterator[None]:
    """Make later connections with a renewed certificate or password.

    Faust and its clients keep the context, so no client has to be replaced.
    """

    def loop(stopped: Event) -> None:
        is_pending = False
        while not stopped.wait(LOOK_EVERY_S):
            is_pending = is_pending or watcher.is_due()
            if is_pending and _is_loaded(tls, identity, stage):
                log.info("certificate_renewed", extra={"stage": "infer"})
                is_pending = False

    with _thread("renewal", loop):
        yield


def _is_loaded(tls: ssl.SSLContext, identity: Identity, stage: InferenceStage) -> bool:
    try:
        identity.load_into(tls)
        stage.renew_login()
    except (CertificateRefused, MissingCertificate):
        return False  # the files are being replaced; the context keeps the old ones
    return True


@contextmanager
def _watchdog(stage: InferenceStage, deadline_s: float, end: BoundedEnd) -> Iterator[None]:
    """End the process after the stage could not work for this long: Faust waits silently."""

    def loop(stopped: Event) -> None:
        deadline = Deadline(deadline_s, time.monotonic)
        while not stopped.wait(WATCH_S) and not end.is_asked:
            if stage.is_at_work():
                deadline = Deadline(deadline_s, time.monotonic)
            elif deadline.has_passed:
                reason = f"no partitions from the group, or no child, for {deadline_s:g} s"
                exit_process(Unavailable(reason))

    with _thread("watch", loop):
        yield
