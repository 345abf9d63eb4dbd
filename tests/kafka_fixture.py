"""A real TLS broker with access rights, and an unused lane for each test that asks for one."""

import itertools
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import Broker, free_ports
from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener, single
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from erasestream.pipeline.devstack.kafka.managed_listener import ManagedListener
from erasestream.schemas.events.installation import Environment
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.topic_admin import set_topic_setting
from tests.flow.waiting import eventually
from tests.kafka_administration import COORDINATOR_S, AdministeredBroker
from tests.paths import CACHE

PARTITIONS = 2
SHARED = {"consent_partitions": 4, "history_partitions": 4, "retained_partitions": 4}
"""Settings of the catalog's other topics: few partitions, as the broker has many lanes."""
COMPRESSION = "compression.type"
SPARE_LANES = 12
"""Lanes that are provisioned at once for the tests of a whole worker: the broker takes most of a
second for a single one, and two to four for all of them."""

SESSION_S = 9.0
"""Its heartbeats, six in a session, are much of what an idle broker does.  No test kills this
broker, which could rejoin only after a session."""


@dataclass
class KafkaFixture(AdministeredBroker):
    """One broker, its authority, and the lanes created so far."""

    authority: CertificateAuthority
    lanes: list[Lane] = field(default_factory=list)
    grown: dict[Lane, int] = field(default_factory=dict)
    """Lanes that have more partitions than at first."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    spare: deque[Lane] = field(default_factory=deque)
    """Lanes that no test has taken yet."""
    spare_lanes: int = SPARE_LANES
    """How many lanes to open when there is no spare one."""

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Stop the broker's process: connections stay open, and no request is answered."""
        running = self.broker.process_id
        assert running
        os.kill(running.pid, signal.SIGSTOP)
        try:
            # On a busy machine the last of its threads stops a moment later.
            eventually("every thread is stopped", lambda: _is_stopped(running.pid))
            yield
        finally:
            os.kill(running.pid, signal.SIGCONT)

    def catalog(self, environment: Environment = Environment.PRODUCTION) -> Catalog:
        """Return the catalog of all lanes so far."""
        return self._catalog(self.lanes, environment)

    def catalog_of(
        self, lane: Lane, *, environment: Environment = Environment.PRODUCTION
    ) -> Catalog:
        """Return the catalog of this lane alone: other lanes are other tests'."""
        return self._catalog([lane], environment)

    def _catalog(self, names: Iterable[Lane], environment: Environment) -> Catalog:
        lanes = (LaneSpec(name=name, partitions=self.grown.get(name, PARTITIONS)) for name in names)
        return Catalog.build(
            tuple(lanes),
            durability=Durability(replication=1, min_insync=1),
            environment=environment,
            **SHARED,
        )

    @contextmanager
    def marked_as(self, environment: Environment) -> Iterator[None]:
        """Provision the installation as another kind for a while."""
        try:
            self.provision(self.catalog(environment))
            yield
        finally:
            self.provision(self.catalog())

    @contextmanager
    def uncompressed(self, topic: str) -> Iterator[None]:
        """Let the broker believe the offsets in this topic's records for a while."""
        with self.admin as admin:
            set_topic_setting(admin, topic, COMPRESSION, "uncompressed")
            try:
                yield
            finally:
                declared = self.catalog().config(self.catalog()[topic])[COMPRESSION]
                set_topic_setting(admin, topic, COMPRESSION, declared)

    def open_lane(self) -> Lane:
        """Return a lane that no test has used: certificates, topics and rights."""
        if not self.spare:
            self.spare.extend(self.open_lanes(self.spare_lanes))
        return self.spare.popleft()

    def open_lanes(self, count: int) -> list[Lane]:
        """Open this many new lanes."""
        opened = [Lane(f"lane-{next(self.numbers)}") for _ in range(count)]
        self.lanes += opened
        catalog = self.catalog()
        for role in catalog.roles:
            if not (self.identities / f"{role}.crt").exists():
                self.authority.issue_role(role, self.identities)
        self.provision(catalog)
        return opened

    def provision(self, catalog: Catalog) -> None:
        """Apply the plan, and wait until the broker enforces its rights."""
        with self.admin as admin:
            provision(admin, catalog, show=lambda _plan: None, deadline_s=COORDINATOR_S)


def _is_stopped(pid: int) -> bool:
    try:
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread has just ended
    # proc(5): the state is the first field after the name, which is in parentheses.
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


@contextmanager
def opened_kafka(
    folder: Path,
    *,
    proxied_listener: ProxiedListener | None = None,
    managed_listener: ManagedListener | None = None,
    spare_lanes: int = SPARE_LANES,
) -> Iterator[KafkaFixture]:
    """Run a broker, with a second or third listener if there is to be one."""
    identities = folder / "identities"
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    identities.mkdir()
    authority.issue_broker("broker", identities)
    authority.issue_role(ADMIN, identities)
    port, controller = free_ports(2)
    config = single(port=port, controller_port=controller, random=os.urandom(16))
    config = replace(
        config,
        proxied_listener=proxied_listener,
        managed_listener=managed_listener,
        session_s=SESSION_S,
    )
    libs = install_kafka(CACHE, print)
    broker = Broker(folder / "broker", identities, libs, config=config, java_options=SHORT_LIVED)
    try:
        broker.start()
        yield KafkaFixture(broker, identities, authority, spare_lanes=spare_lanes)
    finally:
        broker.stop()
