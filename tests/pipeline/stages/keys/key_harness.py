"""Replicas of the key service in this process, on a real bucket and real TLS."""

import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.pipeline.stages.keys.key_answers import KeyAnswers
from erasestream.pipeline.stages.keys.self_check import SelfCheck
from erasestream.pipeline.stages.keys.stage import KeyServiceStage
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.ledger import KeyDestroyed
from erasestream.schemas.ids import Lane
from erasestream.sinks.buckets.access_policy import Role as BucketRole
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GcsSettings
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.epoch_masters import EpochMasters, LocalEpochMasters
from erasestream.sinks.keys.epoch_vault import EpochVault
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import Purpose, purposes
from erasestream.topics.catalog.roles import KEYS, Role
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient

LANES = (Lane("shop"), Lane("bulk"))
ROLES = Catalog.build(tuple(LaneSpec(name=lane) for lane in LANES)).roles
HOST = "127.0.0.2"
"""A host of its own: neither bucket nor broker could pass for the key service."""
TIMES = EpochTimes()
CERTAIN = timedelta(seconds=TIMES.clock_error_s + 60)
"""Time from the death of a key until the ledger has it: then it is dead by every clock."""


@dataclass
class SettableClock:
    """The time of day, moved by the test."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass
class CollectingLedger:
    """Keeps the entries; the real one is under test with a broker (`bootstrap/test_keys.py`)."""

    entries: list[KeyDestroyed] = field(default_factory=list)

    def open(self) -> None:
        """Be open."""

    def record(self, entry: KeyDestroyed) -> None:
        self.entries.append(entry)


_numbers = itertools.count()


def new_time() -> SettableClock:
    """Return a time before those of earlier tests: to this test, none of their keys is dead."""
    return SettableClock(
        datetime(2026, 5, 6, 7, 8, tzinfo=UTC) - next(_numbers) * timedelta(days=9)
    )


@dataclass
class Replica:
    """One replica, and its clock."""

    stage: KeyServiceStage
    vault: EpochVault
    clock: SettableClock
    monotonic: list[float]
    ledger: CollectingLedger

    @property
    def endpoint(self) -> str:
        return f"https://{HOST}:{self.stage.port}"

    def do_round(self) -> None:
        """Do the upkeep that is due after an interval."""
        self.monotonic[0] += 1000
        for _half in range(2):
            self.stage.run_once(0)


@dataclass
class KeyHarness:
    """A vault, masters and certificates, and the replicas that share them."""

    folder: Path
    """Certificates and tokens."""
    masters_folder: Path
    bucket: BucketProcess
    clock: SettableClock
    replicas: list[Replica] = field(default_factory=list)

    @property
    def identities(self) -> Path:
        return self.folder / "identities"

    def store(self, role: BucketRole = BucketRole.KEYS) -> GcsObjectStore:
        """Return the vault as a role."""
        return GcsObjectStore(
            GcsSettings(
                bucket="vault",
                max_object_bytes=10_000,
                endpoint=self.bucket.endpoint,
                ca_file=self.identities / "ca.crt",
                token_file=self.folder / "tokens" / f"{role}.token",
            )
        )

    def masters(self) -> LocalEpochMasters:
        self.masters_folder.mkdir(mode=0o700, exist_ok=True)
        return LocalEpochMasters(self.masters_folder)

    def start(
        self,
        *,
        clock: SettableClock | None = None,
        table: Mapping[str, Purpose] = purposes(LANES),
        masters: EpochMasters | None = None,
        store: ObjectStore | None = None,
        witness: Callable[[], datetime] | None = None,
    ) -> Replica:
        """Start a replica; it has the harness's clock, vault and masters, or some of its own.

        Its clock vouches for itself unless there is a witness: time passes faster than the vault's.
        """
        now, masters = clock or self.clock, masters or self.masters()
        vault = EpochVault(store=store or self.store(), masters=masters, times=TIMES)
        monotonic = [0.0]
        check = SelfCheck(
            now=now,
            witness=witness or now,
            clock=lambda: monotonic[0],
            clock_error_s=TIMES.clock_error_s,
            verify_masters=vault.verify_masters,
        )
        answers = KeyAnswers(
            vault=vault, times=TIMES, purposes=table, now=now, is_trusted=check.is_passed
        )
        identity = Identity.load(self.identities, KEYS)
        server = KeyServer(host=HOST, port=0, identity=identity, answer=answers.answer)
        ledger = CollectingLedger()
        stage = KeyServiceStage(
            server=server,
            vault=vault,
            masters=masters,
            times=TIMES,
            purposes=table,
            ledger=ledger,
            check=check,
            renew=lambda: None,
            stopping=threading.Event(),
            now=now,
            clock=lambda: monotonic[0],
        )
        with suppress(ErasestreamError):
            check.check_clock()
            check.check_masters()
        self.replicas.append(Replica(stage, vault, now, monotonic, ledger))
        return self.replicas[-1]

    def client(
        self, role: str, *replicas: Replica, clock: Callable[[], datetime] | None = None
    ) -> KeyClient:
        """Return a client of these replicas, by default of all."""
        return KeyClient(
            endpoints=[replica.endpoint for replica in replicas or self.replicas],
            identity=Identity.load(self.identities, Role(role)),
            now=clock or self.clock,
        )
