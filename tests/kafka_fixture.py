"""A real TLS broker with access rights, and an unused lane for each test that asks for one."""

import itertools
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.broker import Broker, free_ports
from erasestream.pipeline.devstack.kafka.broker_config import ProxiedListener, single
from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.pipeline.devstack.kafka.java_launcher import FIRST_COMPILER_ONLY
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import apply
from erasestream.topics.admin.provisioning_plan import plan
from erasestream.topics.catalog.acl import Right, rights
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec
from erasestream.topics.catalog.roles import ADMIN, ERASER, ROUTER, SINK
from erasestream.topics.kafka.acl_bindings import EVERY_BINDING, right_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.group_members import leave_group
from tests.paths import CACHE

PARTITIONS = 2
SPARE_LANES = 12
"""Lanes that are provisioned at once, which takes hardly longer than a single one."""
COORDINATOR_S = 90.0
"""Longest time until a broker has loaded its coordinators."""

T = TypeVar("T")
GROUPS = (ROUTER, SINK, ERASER)
"""Groups with static members, which outlive their consumers by a session."""


@dataclass
class KafkaFixture:
    """One broker, its authority, and the lanes created so far."""

    broker: Broker
    authority: CertificateAuthority
    identities: Path
    lanes: list[Lane] = field(default_factory=list)
    grown: dict[Lane, int] = field(default_factory=dict)
    """Lanes that have more partitions than at first."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    spare: deque[Lane] = field(default_factory=deque)
    """Lanes that no test has taken yet."""

    @property
    def cluster(self) -> Cluster:
        """Address of the broker."""
        return Cluster(bootstrap_servers=(self.broker.bootstrap,), identities=self.identities)

    @property
    def admin(self) -> Admin:
        """A new client each time: librdkafka's does not find its coordinator after a restart."""
        return Admin(self.connection(ADMIN))

    @property
    def offsets(self) -> OffsetQueries:
        """Offset queries with a new admin client each time."""
        return OffsetQueries(self.admin)

    @property
    def groups(self) -> GroupOffsets:
        """Committed offsets, as the administrator."""
        return GroupOffsets(self.connection(ADMIN))

    @contextmanager
    def admin_client(self) -> Iterator[AdminClient]:
        """Lend the library's own client, as the administrator."""
        with self.admin as admin, admin.use() as client:
            yield client

    def delete_records(self, below: Mapping[Partition, int]) -> None:
        """Delete the records below these offsets, as retention and the purger do."""
        asked = [TopicPartition(*at, offset) for at, offset in below.items()]
        with self.admin_client() as client:
            for deleted in client.delete_records(asked).values():
                deleted.result(20)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        with self.admin as admin:
            with admin.use() as client:
                client.delete_topics([name])[name].result(20)
            eventually("the topic is gone", lambda: name not in admin.partition_counts())

    def delete_group(self, name: str) -> None:
        """Delete a group without members, and its offsets."""
        with self.admin_client() as client:
            client.delete_consumer_groups([name])[name].result(20)

    def connection(self, role: str) -> Connection:
        """Return client settings of a role."""
        return Connection(cluster=self.cluster, role=role)  # type: ignore[arg-type]

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

    @contextmanager
    def without_rights(self, role: str) -> Iterator[None]:
        """Revoke all rights of this role for a while."""
        its = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{role}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        with self.admin_client() as client:
            (deleted,) = client.delete_acls([its]).values()
            bindings = deleted.result(20.0)
            assert bindings
            try:
                yield
            finally:
                for created in client.create_acls(bindings).values():
                    created.result(20.0)

    def catalog(self) -> Catalog:
        """Return the catalog of all lanes so far."""
        lanes = (
            LaneSpec(name=name, partitions=self.grown.get(name, PARTITIONS)) for name in self.lanes
        )
        return Catalog.build(tuple(lanes), durability=Durability(replication=1, min_insync=1))

    def open_lane(self) -> Lane:
        """Return a lane that no test has used: certificates, topics and rights."""
        if not self.spare:
            self.spare.extend(self.open_lanes(SPARE_LANES))
        return self.spare.popleft()

    def evict_static_members(self) -> None:
        """Evict them, so that the next member of each group waits for no session to expire."""
        with self.admin as admin:
            for group in GROUPS:
                instances = _retry(partial(_static_members, admin, group))
                if instances:
                    tls = self.connection(ADMIN).identity.ssl_context()
                    leave_group(self.broker.bootstrap, tls, group, instances)

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
        """Apply the plan, and wait until the broker enforces its rights.

        A broker that has just started still loads its coordinators.  It acknowledges a right before
        its authorizer knows it.
        """
        with self.admin as admin:
            _retry(lambda: apply(admin, catalog, plan(admin, catalog).changes))
            declared = rights(catalog)
            eventually("the rights are in effect", lambda: declared <= _rights_in_effect(admin))


def _retry(attempt: Callable[[], T]) -> T:
    """Retry while a broker that has just started is not ready."""
    deadline = Deadline(COORDINATOR_S, time.monotonic)
    return retry(attempt, deadline=deadline, max_pause_s=0.2)


def _static_members(admin: Admin, group: str) -> list[str]:
    with admin.use() as client:
        described = client.describe_consumer_groups([group])[group]
        members = admin.ask(f"group {group}", described).members
    return [member.group_instance_id for member in members if member.group_instance_id]


def _rights_in_effect(admin: Admin) -> set[Right | None]:
    with admin.use() as client:
        return {right_of(binding) for binding in client.describe_acls(EVERY_BINDING).result(20)}


def _is_stopped(pid: int) -> bool:
    try:
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread has just ended
    # proc(5): the state is the first field after the name, which is in parentheses.
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


@contextmanager
def opened_kafka(
    folder: Path, *, proxied_listener: ProxiedListener | None = None
) -> Iterator[KafkaFixture]:
    """Run a broker, with a second listener if there is to be one."""
    identities = folder / "identities"
    authority = CertificateAuthority.create(folder / "authority", now=lambda: datetime.now(UTC))
    identities.mkdir()
    authority.issue_broker("broker", identities)
    authority.issue_role(ADMIN, identities)
    port, controller = free_ports(2)
    config = single(port=port, controller_port=controller, random=os.urandom(16))
    config = replace(config, proxied_listener=proxied_listener)
    libs = install_kafka(CACHE, print)
    broker = Broker(
        folder / "broker", identities, libs, config=config, java_options=FIRST_COMPILER_ONLY
    )
    try:
        broker.start()
        yield KafkaFixture(broker, authority, identities)
    finally:
        broker.stop()
