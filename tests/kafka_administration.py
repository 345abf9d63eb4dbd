"""Requests to a broker of the tests, as the administrator."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.schemas.clocks import Deadline
from erasestream.topics.catalog.acl import Right
from erasestream.topics.catalog.roles import ADMIN, ERASER, ROUTER, SINK
from erasestream.topics.kafka.acl_bindings import EVERY_BINDING, right_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.group_members import evict_static_members

COORDINATOR_S = 300.0
"""Longest time until a started broker has loaded its coordinators."""
GROUPS = (ROUTER, SINK, ERASER)
"""Groups with static members, which outlive their consumers by a session."""

T = TypeVar("T")


@dataclass
class AdministeredBroker:
    """One broker, and what its administrator can do."""

    broker: Broker
    identities: Path

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
        with self.admin as admin, admin.use() as client:
            (deleted,) = client.delete_acls([its]).values()
            bindings = deleted.result(20.0)
            assert bindings
            revoked = set(map(right_of, bindings))
            eventually("the rights are revoked", lambda: not revoked & rights_in_effect(admin))
            try:
                yield
            finally:
                for created in client.create_acls(bindings).values():
                    created.result(20.0)
                eventually("the rights are back", lambda: revoked <= rights_in_effect(admin))

    def evict_static_members(self) -> None:
        """Evict them, so that the next member of each group waits for no session to expire."""
        tls = self.connection(ADMIN).identity.ssl_context()
        retry_until_loaded(partial(evict_static_members, self.broker.bootstrap, tls, GROUPS))


def rights_in_effect(admin: Admin) -> set[Right | None]:
    """Return the rights that the broker enforces.

    It acknowledges a change of rights before its authorizer has applied it.
    """
    with admin.use() as client:
        return {right_of(binding) for binding in client.describe_acls(EVERY_BINDING).result(20)}


def retry_until_loaded(attempt: Callable[[], T]) -> T:
    """Retry while a broker that has just started is not ready."""
    deadline = Deadline(COORDINATOR_S, time.monotonic)
    return retry(attempt, deadline=deadline, max_pause_s=0.2)
