"""From settings to running parts: the only place where the two meet.

Each function makes the parts of one role, checks that it may do what it must and that
everything is there, and raises `Refused` with a sentence if not.
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Event

from erasestream.pipeline.settings import Environment, Settings, StorageSettings
from erasestream.pipeline.stages.encryption.stage import SinkStage
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser, Trouble
from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.pipeline.stages.purge.stage import PurgerStage
from erasestream.pipeline.stages.routing import router
from erasestream.pipeline.stages.routing.router import Router
from erasestream.schemas.errors import MissingCertificate, Refused
from erasestream.schemas.ids import Lane
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Action, permissions
from erasestream.sinks.buckets.gcs import GOOGLE, GcsObjectStore, GcsSettings
from erasestream.sinks.images.envelope import MAX_SEALED_BYTES
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.sinks.images.object_names import NAME_KEY_BYTES
from erasestream.sinks.keys.key_vault import KeyVault, KeyVaultReader, mark_erased
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.admin.record_purge import RecordPurger
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ERASER, OPERATOR, PURGER, READER, ROUTER, SINK, Role
from erasestream.topics.catalog.topic_names import (
    ERASURES,
    LEDGER,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.view import ConsentView, ReportFinding, ignore_finding
from erasestream.topics.consent.writer import ConsentWriter, OperatorPolicy
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.loop import TransactionalLoop

log = logging.getLogger(__name__)

LOAD_DEADLINE_S = 60.0
LEDGER_TIMEOUT_S = 20.0
FINDING_TIMEOUT_S = 5.0
BEAT_TIMEOUT_S = 5.0
OPEN_ANSWER_S = 5.0
"""What the router waits for an answer with a transaction open: several fit into its timeout."""

READ = (Operation.READ,)
WRITE = (Operation.WRITE,)


class RouterStage:
    """The consent join as a process."""

    def __init__(self, settings: Settings, stopping: Event) -> None:
        catalog = settings.catalog()
        connection = Connection(cluster=settings.cluster, role=ROUTER)
        admin = connection.admin(timeout_s=settings.stage.answer_timeout_s)
        lanes = catalog.lane_names
        counts = admin.check_rights(
            {cutouts_of(lane): READ for lane in lanes}
            | {uploads_of(lane): READ for lane in lanes}
            | {consent_of(lane): READ for lane in lanes}
            | {ephemeral_of(lane): WRITE for lane in lanes}
            | {RETAINED: WRITE, LEDGER: WRITE}
        )
        admin.check_group(ROUTER, Partition(cutouts_of(lanes[0]), 0))
        self._findings = LedgerFindings(
            writes=AcknowledgedWriter(connection=connection, timeout_s=FINDING_TIMEOUT_S),
            ledger_partitions=counts[LEDGER],
        )
        self.view = _view(connection, catalog, report=self._findings.report)
        self._originals = RecordFetcher(connection=connection)
        self.router = Router(
            catalog=catalog,
            view=self.view,
            originals=self._originals,
            admin=connection.admin(timeout_s=OPEN_ANSWER_S),
            stopping=stopping,
        )
        self._loop = TransactionalLoop(
            connection=connection,
            topics=router.topics_of(catalog),
            instance=settings.stage.instance,
            handler=self.router,
            stopping=stopping,
        )
        self._loop.start()

    def run_once(self) -> None:
        """One small read and what follows from it."""
        self._loop.run_once()
        if not self._loop.is_open:
            self._findings.write_one()

    def is_ready(self) -> bool:
        """Whether the group said which partitions are its own; that may be none."""
        return self._loop.is_assigned

    def close(self) -> None:
        """Commit what is decided, and leave."""
        self._loop.close()
        self._originals.close()
        self.view.close()


class EncryptionStage:
    """The encryption sink as a process."""

    def __init__(self, settings: Settings, stopping: Event) -> None:
        catalog = settings.catalog()
        storage = storage_of(settings)
        connection = Connection(cluster=settings.cluster, role=SINK)
        admin = connection.admin(timeout_s=settings.stage.answer_timeout_s)
        admin.check_rights(
            {consent_of(lane): READ for lane in catalog.lane_names} | {RETAINED: READ}
        )
        admin.check_group(SINK, Partition(RETAINED, 0))
        images = bucket(storage, storage.bucket, SINK, permissions(IMAGES, SINK))
        vault_store = bucket(storage, storage.vault, SINK, permissions(VAULT, SINK))
        vault = KeyVault(
            store=vault_store, keyring=LocalKeyring(storage.keyring), clock=time.monotonic
        )
        self._view = _view(connection, catalog)
        self._queue = WorkQueue(
            connection=connection, topics=[RETAINED], instance=settings.stage.instance
        )
        self._stage = SinkStage(
            queue=self._queue,
            view=self._view,
            sink=EncryptionSink(store=images, vault=vault, name_key=_name_key(storage.name_key)),
            stopping=stopping,
        )

    def run_once(self) -> None:
        """One batch."""
        self._stage.run_once()

    def is_ready(self) -> bool:
        """Whether the group has answered."""
        return self._queue.has_joined

    def close(self) -> None:
        """Leave the group."""
        self._queue.close()
        self._stage.close()
        self._view.close()


def purger(settings: Settings, stopping: Event) -> PurgerStage:
    """The early purge as a process."""
    catalog = settings.catalog()
    connection = Connection(cluster=settings.cluster, role=PURGER)
    may = (Operation.DELETE,)
    connection.admin().check_rights({topic.name: may for topic in catalog.topics if topic.purgers})
    return PurgerStage(
        purge=RecordPurger(connection=connection, catalog=catalog),
        stopping=stopping,
        interval_s=settings.stage.purge_interval.total_seconds(),
    )


def eraser(settings: Settings, stopping: Event) -> EraserStage:
    """The eraser's first step as a process."""
    catalog = settings.catalog()
    storage = storage_of(settings)
    connection = Connection(cluster=settings.cluster, role=ERASER)
    topics = [consent_of(lane) for lane in catalog.lane_names]
    admin = connection.admin()
    counts = admin.check_rights(dict.fromkeys([*topics, LEDGER, ERASURES], (*READ, *WRITE)))
    admin.check_group(ERASER, Partition(topics[0], 0))
    vault = bucket(storage, storage.vault, ERASER, (Action.CREATE,))
    partitions = {name: counts.pop(name) for name in (LEDGER, ERASURES)}
    writes = AcknowledgedWriter(connection=connection, timeout_s=LEDGER_TIMEOUT_S)
    trouble = Trouble()
    beats = AcknowledgedWriter(connection=connection, timeout_s=BEAT_TIMEOUT_S)
    return EraserStage(
        queue=WorkQueue(connection=connection, topics=topics, instance=settings.stage.instance),
        ledger=LedgerView(connection=connection, partitions=partitions),
        erasing=GrantEraser(
            writes=writes,
            partitions=partitions,
            mark=lambda grant: mark_erased(vault, grant),
            stopping=stopping,
            trouble=trouble,
        ),
        findings=LedgerFindings(
            writes=writes, ledger_partitions=partitions[LEDGER], source="/eraser"
        ),
        trouble=trouble,
        beat=CompactionHeartbeat(writes=beats, partitions=counts).beat,
        beat_every_s=catalog.policy.heartbeat_s,
        stopping=stopping,
    )


def _view(
    connection: Connection, catalog: Catalog, *, report: ReportFinding = ignore_finding
) -> ConsentView:
    """The consent view, loaded up to where the decisions reach now.

    Raises `Refused` if a consent topic has another number of partitions than declared: what
    its writers put into the others would not be seen, and that could be a revocation.
    """
    topics = [consent_of(lane) for lane in catalog.lane_names]
    for name, count in connection.admin().check_rights(dict.fromkeys(topics, READ)).items():
        if count != catalog[name].partitions:
            raise Refused(f"{name} has {count} partitions, declared {catalog[name].partitions}")
    view = ConsentView(
        connection=connection, catalog=catalog, lanes=catalog.lane_names, report=report
    )
    view.catch_up(view.mark(), deadline_s=LOAD_DEADLINE_S)
    return view


def storage_of(settings: Settings) -> StorageSettings:
    """The storage section.  Raises `Refused` if the settings have none."""
    if settings.storage is None:
        raise Refused("settings: the section storage is missing")
    return settings.storage


def bucket(
    storage: StorageSettings, name: str, role: Role, actions: Iterable[Action]
) -> GcsObjectStore:
    """A bucket as a role, checked.  Raises `Refused` or `Unavailable`."""
    token = storage.tokens / f"{role}.token" if storage.tokens else None
    store = GcsObjectStore(
        GcsSettings(
            bucket=name,
            max_object_bytes=MAX_SEALED_BYTES,
            endpoint=storage.endpoint or GOOGLE,
            ca_file=storage.ca,
            token_file=token,
        )
    )
    store.check(actions)
    return store


def _name_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise MissingCertificate(f"no file {path}") from error
    if len(key) != NAME_KEY_BYTES:
        raise Refused(f"{path} does not hold {NAME_KEY_BYTES} bytes")
    return key


def reader(settings: Settings) -> RetainedReader:
    """What a training service reads with, as the role reader."""
    storage = storage_of(settings)
    images = bucket(storage, storage.bucket, READER, permissions(IMAGES, READER))
    vault_store = bucket(storage, storage.vault, READER, permissions(VAULT, READER))
    vault = KeyVaultReader(
        store=vault_store, keyring=LocalKeyring(storage.keyring), clock=time.monotonic
    )
    return RetainedReader(store=images, vault=vault, clock=time.monotonic)


def consent_writer(settings: Settings, lane: Lane, *, role: Role = OPERATOR) -> ConsentWriter:
    """What records decisions of a lane's accounts, by default as an operator."""
    settings.catalog().lane(lane)
    is_development = settings.environment is Environment.DEVELOPMENT
    return ConsentWriter(
        connection=Connection(cluster=settings.cluster, role=role),
        lane=lane,
        operators=OperatorPolicy.GRANT_AND_REVOKE if is_development else OperatorPolicy.REVOKE_ONLY,
    )


def consent_reader(settings: Settings, lane: Lane, *, role: Role = OPERATOR) -> ConsentReader:
    """What shows decisions of a lane's accounts, by default as an operator."""
    settings.catalog().lane(lane)
    return ConsentReader(connection=Connection(cluster=settings.cluster, role=role), lane=lane)
