"""The key service of one lane beside the shared broker: real HTTPS, vault and masters."""

from dataclasses import dataclass, field
from pathlib import Path

from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.pipeline.stages.keys.key_answers import KeyAnswers
from erasestream.schemas.ids import Lane
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener, EpochRecipient
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.buckets.gcs_client import GcsSettings
from erasestream.sinks.keys.epoch_masters import LocalEpochMasters
from erasestream.sinks.keys.epoch_vault import EpochVault
from erasestream.topics.catalog.purposes import purposes
from erasestream.topics.catalog.roles import KEYS, Role
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.keys.key_harness import HOST, TIMES, SettableClock, new_time

WAIT_S = 20.0


@dataclass
class LaneKeys:
    """The service, whose only replica stops and starts at one address; and its clock."""

    kafka: KafkaFixture
    lane: Lane
    bucket: BucketProcess
    masters: Path
    clock: SettableClock = field(default_factory=new_time)
    server: KeyServer | None = None
    port: int = 0

    @property
    def epoch(self) -> int:
        return TIMES.number(self.clock())

    @property
    def cluster(self) -> Cluster:
        """The broker and this service."""
        return Cluster(
            bootstrap_servers=self.kafka.cluster.bootstrap_servers,
            identities=self.kafka.identities,
            key_endpoints=f"https://{HOST}:{self.port}",
        )

    def start(self) -> None:
        store = GcsObjectStore(
            GcsSettings(
                bucket="vault",
                max_object_bytes=10_000,
                endpoint=self.bucket.endpoint,
                ca_file=self.kafka.identities / "ca.crt",
                token_file=self.kafka.identities.parent / "tokens" / f"{KEYS}.token",
            )
        )
        self.masters.mkdir(mode=0o700, exist_ok=True)
        vault = EpochVault(store=store, masters=LocalEpochMasters(self.masters), times=TIMES)
        answers = KeyAnswers(
            vault=vault,
            times=TIMES,
            purposes=purposes((self.lane,)),
            now=self.clock,
            is_trusted=lambda: True,
        )
        identity = Identity.load(self.kafka.identities, KEYS)
        self.server = KeyServer(host=HOST, port=self.port, identity=identity, answer=answers.answer)
        self.port = self.server.port

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    def client(self, role: str) -> KeyClient:
        return KeyClient.of(self.cluster, Role(role), now=self.clock)

    def opener(self, role: str, purpose: str, epoch: int) -> EpochOpener:
        """Return what opens for a purpose, fetched as this role."""
        raw = self.client(role).opening_key(purpose, epoch, timeout_s=WAIT_S)
        assert isinstance(raw, bytes)
        return EpochOpener.of(Epoch(purpose, epoch), raw)

    def recipient(self, purpose: str, epoch: int) -> EpochRecipient:
        """Return what the inference stage seals for."""
        raw = self.client("inference").public_key(purpose, epoch, timeout_s=WAIT_S)
        assert isinstance(raw, bytes)
        return EpochRecipient.of(Epoch(purpose, epoch), raw)
