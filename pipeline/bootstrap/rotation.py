"""Open the rotation of the grants' master key as a process."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event

from erasestream.pipeline.bootstrap.keyring import kms_settings, open_keyring
from erasestream.pipeline.bootstrap.storage import open_vault, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.rotation.destruction_report import DestructionReport
from erasestream.pipeline.stages.rotation.stage import RotationStage
from erasestream.schemas.clocks import Clock, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.ledger import MasterDestroyed
from erasestream.sinks.buckets.gcs import PUT_ENDS_S
from erasestream.sinks.keys.key_rewrap import KeyRewrapper
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S
from erasestream.sinks.keys.keyring import KEY_BYTES, VERSIONS_AGE_S, Keyring
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.roles import ROTATOR
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

LEDGER_TIMEOUT_S = 20.0
SETTLE_S = VERSIONS_AGE_S + CACHE_LIMIT_S + PUT_ENDS_S + 5.0
"""A sink knows a version at the latest after the first; a key that it began to create under an
older one is there after the next two.  The rest is for threads that are not scheduled at once."""


@contextmanager
def rotation_stage(
    settings: Settings,
    stopping: Event,
    *,
    now: WallClock = utc_now,
    clock: Clock = time.monotonic,
) -> Iterator[RotationStage]:
    """Open the stage.

    Raises `Refused` for a key in Cloud KMS that keeps destroyed versions for too long.
    """
    storage = storage_of(settings)
    connection = Connection(cluster=settings.cluster, role=ROTATOR)
    with Admin(connection) as admin:
        partitions = admin.check_rights({LEDGER: (Operation.WRITE,)})[LEDGER]
    with ExitStack() as opened:
        vault = opened.enter_context(open_vault(storage, ROTATOR))
        if storage.kms_key is not None:
            # Only those that use Cloud KMS have its packages.
            from erasestream.sinks.keys.cloud_kms_key import verify_key  # noqa: PLC0415

            verify_key(
                kms_settings(storage, ROTATOR), destroyed_within=settings.rotation.destroyed_within
            )
        keyring = opened.enter_context(open_keyring(storage, ROTATOR))
        _check(keyring)
        writer = AcknowledgedWriter(connection=connection, timeout_s=LEDGER_TIMEOUT_S)
        opened.enter_context(closing(writer))
        stage = RotationStage(
            keyring=keyring,
            rewrapper=KeyRewrapper(store=vault, keyring=keyring, clock=clock),
            report=DestructionReport(store=vault, record=_ledger(writer, partitions), now=now),
            interval=settings.rotation.interval,
            settle_s=SETTLE_S,
            stopping=stopping,
            now=now,
            clock=clock,
        )
        yield opened.enter_context(closing(stage))


def _check(keyring: Keyring) -> None:
    """Wrap and unwrap a key that is not used.  Raises `Refused` or `Unavailable`."""
    version, wrapped = keyring.wrap(bytes(KEY_BYTES), b"")
    keyring.unwrap(version, wrapped, b"")


def _ledger(writer: AcknowledgedWriter, partitions: int) -> Callable[[MasterDestroyed], None]:
    """Return a function that writes to the ledger of all lanes."""

    def record(entry: MasterDestroyed) -> None:
        key = entry.master.encode()
        at = Partition(LEDGER, partition_of(key, partitions))
        writer.write(at, key, to_wire(entry, source="/rotator"))

    return record
