"""Open a replica of the key service."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event

from erasestream.pipeline.bootstrap.storage import open_vault, storage_of
from erasestream.pipeline.settings import KeySettings, Settings
from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.pipeline.stages.keys.key_answers import KeyAnswers
from erasestream.pipeline.stages.keys.key_ledger import KeyLedger
from erasestream.pipeline.stages.keys.self_check import SelfCheck
from erasestream.pipeline.stages.keys.stage import KeyServiceStage
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import CertificateRefused, Refused
from erasestream.sinks.buckets.access_policy import EPOCHS
from erasestream.sinks.buckets.bucket_clock import BucketClock
from erasestream.sinks.keys.epoch_masters import LocalEpochMasters
from erasestream.sinks.keys.epoch_vault import EpochVault
from erasestream.topics.catalog.purposes import purposes
from erasestream.topics.catalog.roles import KEYS
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.tls import Identity


@contextmanager
def key_service_stage(
    settings: Settings,
    stopping: Event,
    *,
    now: WallClock = utc_now,
    witness: WallClock | None = None,
) -> Iterator[KeyServiceStage]:
    """Open a replica.  `now` is its only clock for epochs; `witness` vouches for it.

    The witness is the vault's clock unless one is given.  Brokers are not needed for this, nor for
    giving out keys.
    """
    times, storage = settings.epochs(), storage_of(settings)
    keys = _section(settings)
    if keys.masters is None or keys.listen_host is None:
        raise Refused("settings: keys.masters or keys.listen_host is missing")
    identity = Identity.load(settings.kafka.identities, KEYS)
    connection = Connection(cluster=settings.cluster, role=KEYS)
    with ExitStack() as opened:
        store = opened.enter_context(open_vault(storage, KEYS))
        masters = LocalEpochMasters(keys.masters)
        vault = EpochVault(store=store, masters=masters, times=times)
        ledger = opened.enter_context(closing(KeyLedger(connection, times)))
        table = purposes(settings.catalog().lane_names)
        check = SelfCheck(
            now=now,
            witness=witness or BucketClock(store, f"{EPOCHS}clock-"),
            clock=time.monotonic,
            clock_error_s=times.clock_error_s,
            verify_masters=vault.verify_masters,
        )
        answers = KeyAnswers(
            vault=vault, times=times, purposes=table, now=now, is_trusted=check.is_passed
        )
        server = KeyServer(
            host=keys.listen_host, port=keys.listen_port, identity=identity, answer=answers.answer
        )
        opened.enter_context(closing(server))
        yield KeyServiceStage(
            server=server,
            vault=vault,
            masters=masters,
            times=times,
            purposes=table,
            ledger=ledger,
            check=check,
            renew=_renewal(server, identity),
            stopping=stopping,
            now=now,
        )


def _section(settings: Settings) -> KeySettings:
    if settings.keys is None:
        raise Refused("settings: the section keys is missing")
    return settings.keys


def _renewal(server: KeyServer, identity: Identity) -> Callable[[], None]:
    watcher = CertificateWatcher(identity)

    def renew() -> None:
        if watcher.is_due():
            try:
                server.renew(identity)
            except CertificateRefused:
                return  # replaced again meanwhile: due at the next look

    return renew
