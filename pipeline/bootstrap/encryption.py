"""Open the encryption sink as a process."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from threading import Event

from erasestream.pipeline.bootstrap.consent import consent_view
from erasestream.pipeline.bootstrap.keyring import open_keyring
from erasestream.pipeline.bootstrap.storage import open_images, open_vault, storage_of
from erasestream.pipeline.runtime.kept import Kept
from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.encryption.loss_report import LossReport
from erasestream.pipeline.stages.encryption.loss_watch import LossWatch
from erasestream.pipeline.stages.encryption.picture_store import PictureStore
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.pipeline.stages.encryption.unread_records import UnreadRecords
from erasestream.pipeline.stages.encryption.unstored_alarm import UnstoredAlarm
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.ledger import Finding
from erasestream.sinks.images.capsule_keys import CapsuleKeys
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.sinks.images.object_names import NAME_KEY_BYTES
from erasestream.sinks.keys.key_vault import KeyVault
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.roles import SINK
from erasestream.topics.catalog.topic_names import (
    INSTALLATION,
    LEDGER,
    RETAINED,
    consent_of,
    revocations_of,
)
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient

FINDING_TIMEOUT_S = 5.0
FETCH_WAIT_S = 1.0
"""Longest wait of one turn for a record that is read again."""
QUEUE_KBYTES = 32_000
"""Images that are fetched before there is room for them; one is fetched however large it is."""


@contextmanager
def sink_decisions(settings: Settings) -> Iterator[ConsentView]:
    """Load the owners' decisions; the clients renew their certificates themselves."""
    catalog = settings.catalog()
    connection = Connection(cluster=settings.cluster, role=SINK)
    _check(connection, catalog, answer_timeout_s=settings.stage.answer_timeout_s)
    with consent_view(connection, catalog) as view:
        yield view


@contextmanager
def encryption_stage(
    settings: Settings, stopping: Event, *, decisions: Kept[ConsentView] | None = None
) -> Iterator[EncryptionStage]:
    """Open the encryption sink, a member of its group, with its own decisions unless given some."""
    storage = storage_of(settings)
    connection = Connection(cluster=settings.cluster, role=SINK)
    catalog = settings.catalog()
    capsules = _capsule_keys(settings, catalog)
    with ExitStack() as opened:
        images = opened.enter_context(open_images(storage, SINK))
        vault = opened.enter_context(open_vault(storage, SINK))
        keyring = opened.enter_context(open_keyring(storage, SINK))
        keys = KeyVault(store=vault, keyring=keyring, clock=time.monotonic)
        keys.check_keyring()
        decisions = decisions or opened.enter_context(
            closing(Kept(partial(sink_decisions, settings)))
        )
        view = decisions.get()
        queue = WorkQueue(
            connection=connection,
            topics=[RETAINED],
            instance=settings.stage.instance,
            queue_kbytes=QUEUE_KBYTES,
        )
        opened.enter_context(closing(queue))
        records = opened.enter_context(
            closing(RecordFetcher(connection=connection, max_wait_s=FETCH_WAIT_S))
        )
        sink = EncryptionSink(
            store=images,
            vault=keys,
            name_key=read_secret(storage.name_key, size=NAME_KEY_BYTES),
            capsules=capsules,
        )
        stage = EncryptionStage(
            queue=queue,
            records=records,
            view=view,
            store=PictureStore(
                view=view,
                sink=sink,
                stopping=stopping,
                max_parallel=storage.uploads_in_flight,
                max_bytes=storage.bytes_in_flight,
            ),
            losses=LossWatch(
                report=LossReport(_ledger(opened, connection, catalog=catalog)),
                alarm=UnstoredAlarm(catalog.policy.sink_outage_s),
                unread=_unread(opened, connection),
                stopping=stopping,
            ),
            quarantine=QuarantineRegistry(),
        )
        yield opened.enter_context(closing(stage))


def _unread(opened: ExitStack, connection: Connection) -> UnreadRecords:
    """Return the comparison of what the group has committed with what there is."""
    groups = GroupOffsets(connection)
    offsets = OffsetQueries(opened.enter_context(Admin(connection)))

    def committed(at: Partition) -> int | None:
        found = groups.committed(SINK, [at]).get(at)
        return found.offset if found else None

    return UnreadRecords(committed=committed, log_start=offsets.log_start)


def _capsule_keys(settings: Settings, catalog: Catalog) -> CapsuleKeys | None:
    """Return the keys of sealed pictures; None without a key service, if no lane requires it."""
    cluster = settings.cluster
    if settings.keys is None and all(spec.sealing is Sealing.ACCEPTED for spec in catalog.lanes):
        return None
    times = settings.epochs()
    identity = Identity.load(cluster.identities, SINK)
    client = KeyClient(endpoints=cluster.key_endpoints, identity=identity)
    return CapsuleKeys(client, times=times)


def _ledger(
    opened: ExitStack, connection: Connection, *, catalog: Catalog
) -> Callable[[str, Finding], None]:
    """Return a function that writes a finding about a lane, or a topic, to the ledger."""
    writer = AcknowledgedWriter(connection=connection, timeout_s=FINDING_TIMEOUT_S)
    opened.enter_context(closing(writer))
    partitions = catalog[LEDGER].partitions

    def write(name: str, finding: Finding) -> None:
        key = name.encode()
        at = Partition(LEDGER, partition_of(key, partitions))
        writer.write(at, key, to_wire(finding, source="/sink"))

    return write


def _check(connection: Connection, catalog: Catalog, *, answer_timeout_s: float) -> None:
    read = (Operation.READ,)
    with Admin(connection, timeout_s=answer_timeout_s) as admin:
        admin.check_rights(
            {consent_of(lane): read for lane in catalog.lane_names}
            | {revocations_of(lane): read for lane in catalog.lane_names}
            | {RETAINED: read, INSTALLATION: read, LEDGER: (Operation.WRITE,)}
        )
    GroupOffsets(connection, timeout_s=answer_timeout_s).check(SINK, Partition(RETAINED, 0))
