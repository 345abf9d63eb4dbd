"""Access rights, derived from the catalog and never written by hand.

Brokers deny by default, so that a role has these rights and no others.  They are the least that
work on Kafka 4.4: an idempotent producer needs TOPIC WRITE; a transactional one also
TRANSACTIONAL_ID WRITE, and GROUP READ for the offsets that it commits; a consumer needs TOPIC READ
and GROUP READ; READ, WRITE and DELETE imply DESCRIBE.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import (
    AUDITOR,
    ERASER,
    INFERENCE,
    PURGER,
    ROUTER,
    SINK,
    LaneRole,
    Role,
    lane_role,
)
from erasestream.topics.catalog.topic_names import uploads_of


class Resource(StrEnum):
    """Type of a resource."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional_id"
    CLUSTER = "broker"


class Operation(StrEnum):
    """Operation that a right allows."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    DESCRIBE = "describe"
    DESCRIBE_CONFIGS = "describe_configs"


class Match(StrEnum):
    """Comparison of resource names."""

    LITERAL = "literal"
    PREFIXED = "prefixed"


@dataclass(frozen=True, order=True)
class Right:
    """Right of one role, or of a principal of it, to one operation on one resource."""

    role: Role
    operation: Operation
    resource: Resource
    name: str
    match: Match = Match.LITERAL

    def __str__(self) -> str:
        star = "*" if self.match is Match.PREFIXED else ""
        return f"{self.role} may {self.operation} {self.resource} {self.name}{star}"


def group_prefix(role: Role) -> str:
    """Return the prefix of the role's consumer groups; a name chosen by the service follows."""
    return f"{role}."


def transactional_prefix(role: Role) -> str:
    """Return the prefix of the role's transactional ids; the name of the instance follows."""
    return f"{role}."


def rights(catalog: Catalog) -> frozenset[Right]:
    """Return every right of every role."""
    return frozenset((*_topic_rights(catalog), *_client_rights(catalog), *_auditor(catalog)))


def principal_rights(catalog: Catalog) -> frozenset[Right]:
    """Return every right, each of the principals of its role in place of the role."""
    return frozenset(
        replace(right, role=Role(name))
        for right in rights(catalog)
        for name in catalog.principals.of(right.role)
    )


def _topic_rights(catalog: Catalog) -> Iterator[Right]:
    for topic in catalog.topics:
        for operation, roles in (
            (Operation.WRITE, topic.writers),
            (Operation.READ, topic.readers),
            (Operation.DELETE, topic.purgers),
        ):
            for role in roles:
                yield Right(role, operation, Resource.TOPIC, topic.name)


def _client_rights(catalog: Catalog) -> Iterator[Right]:
    for role in (INFERENCE, ROUTER, SINK, ERASER):
        yield Right(role, Operation.READ, Resource.GROUP, role)
    prefix = transactional_prefix(ROUTER)
    yield Right(ROUTER, Operation.WRITE, Resource.TRANSACTIONAL_ID, prefix, Match.PREFIXED)
    for group in (ROUTER, SINK):
        yield Right(PURGER, Operation.DESCRIBE, Resource.GROUP, group)
    for lane in catalog.lane_names:
        producer = lane_role(lane, LaneRole.PRODUCER)  # asks for the largest record
        yield Right(producer, Operation.DESCRIBE_CONFIGS, Resource.TOPIC, uploads_of(lane))
        role = lane_role(lane, LaneRole.CONSUMER)
        name = group_prefix(role)
        yield Right(role, Operation.READ, Resource.GROUP, name, Match.PREFIXED)


def _auditor(catalog: Catalog) -> Iterator[Right]:
    yield Right(AUDITOR, Operation.DESCRIBE, Resource.CLUSTER, "kafka-cluster")
    yield Right(AUDITOR, Operation.DESCRIBE_CONFIGS, Resource.CLUSTER, "kafka-cluster")
    for topic in catalog.topics:
        yield Right(AUDITOR, Operation.DESCRIBE_CONFIGS, Resource.TOPIC, topic.name)
        yield Right(AUDITOR, Operation.DESCRIBE, Resource.TOPIC, topic.name)
