"""Make the cluster what the catalog declares: first a plan, then its application.

A plan lists every difference between what is declared and what is there, so that a person
can read it before anything changes; applied once, the next plan is empty.  Rights that the
catalog does not name are taken away.  Topics that it does not name are left alone and
reported.  Partition counts only grow, those of uploads last; those of `consent.L` never
change, since the partition of an account is computed from their number.

For every new partition of `cutouts.L` the router's group gets its first offset together
with its first replay mark (`replay_mark.py`), by the proof that the router asks for, too: the
partition of `ephemeral.L` never held a record, so nothing was routed.  Any other that has no
offset is never mended here, since guessing would lose or repeat records: it is reported, for
`erasestream repair`.  While routers run nobody else may commit for their group: then they begin
new partitions themselves.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import assert_never

from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
)

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Right, rights
from erasestream.topics.catalog.catalog import Catalog, Topic
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import cutouts_of, ephemeral_of, uploads_of
from erasestream.topics.kafka.acl_bindings import (
    EVERY_BINDING,
    AclBinding,
    binding_of,
    describe,
    exactly,
    right_of,
)
from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S, Admin
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition


@dataclass(frozen=True)
class CreateTopic:
    """A topic that is missing."""

    topic: Topic

    def __str__(self) -> str:
        return f"create topic {self.topic.name} with {self.topic.partitions} partitions"


@dataclass(frozen=True)
class AddPartitions:
    """A topic with fewer partitions than declared."""

    topic: Topic
    actual: int

    def __str__(self) -> str:
        return f"grow topic {self.topic.name} from {self.actual} to {self.topic.partitions}"


@dataclass(frozen=True)
class SetConfig:
    """A setting of a topic that differs from the declared one."""

    topic: str
    name: str
    actual: str | None
    declared: str

    def __str__(self) -> str:
        return f"set {self.name} of {self.topic} from {self.actual} to {self.declared}"


@dataclass(frozen=True)
class Grant:
    """A right that is missing."""

    right: Right

    def __str__(self) -> str:
        return f"allow: {self.right}"


@dataclass(frozen=True)
class Withdraw:
    """A right that nobody declared."""

    binding: AclBinding

    def __str__(self) -> str:
        return f"withdraw: {describe(self.binding)}"


@dataclass(frozen=True)
class StartMark:
    """A partition of cut-outs that the router has no offset and replay mark for yet."""

    lane: Lane
    partition: int

    def __str__(self) -> str:
        return f"start the router at partition {self.partition} of {cutouts_of(self.lane)}"


Change = CreateTopic | AddPartitions | SetConfig | Grant | Withdraw | StartMark


@dataclass(frozen=True)
class Plan:
    """What differs, in the order in which it is changed, and what is not ours."""

    changes: tuple[Change, ...]
    unknown_topics: tuple[str, ...] = ()
    needs_repair: tuple[Partition, ...] = ()
    """Partitions that the router has no offset for, though results of them were delivered."""


def plan(admin: Admin, catalog: Catalog) -> Plan:
    """What has to change.  Raises `Refused` where the change would break a promise."""
    counts = admin.partition_counts()
    changes: list[Change] = []
    for topic in catalog.topics:
        actual = counts.get(topic.name)
        if actual is None:
            changes.append(CreateTopic(topic))
        elif actual < topic.partitions:
            if topic.compacted:
                raise Refused(f"{topic.name} has {actual} partitions, and that never changes")
            changes.append(AddPartitions(topic, actual))
        elif actual > topic.partitions:
            raise Refused(f"{topic.name} has {actual} partitions, and counts never shrink")
    changes += _config_changes(admin, catalog, counts)
    changes += _right_changes(admin, catalog)
    starts, needs_repair = _missing_marks(admin, catalog, counts)
    changes += starts
    known = {topic.name for topic in catalog.topics}
    unknown = sorted(name for name in counts if name not in known and name[:2] != "__")
    return Plan(tuple(changes), tuple(unknown), tuple(needs_repair))


def provision(
    admin: Admin, catalog: Catalog, *, show: Callable[[Plan], None], deadline_s: float = 90.0
) -> None:
    """Plan, show the plan, apply it; again while the brokers are not ready for all of it.

    A broker that has just started still loads its coordinators.  Raises `Unavailable` after
    the deadline.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            planned = plan(admin, catalog)
            show(planned)
            return apply(admin, catalog, planned.changes)
        except Unavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def apply(admin: Admin, catalog: Catalog, changes: Iterable[Change]) -> None:
    """Carry the changes out in their order; new topics, or rights, in one request."""
    for _, run in groupby(changes, key=type):
        same = tuple(run)
        if topics := [change.topic for change in same if isinstance(change, CreateTopic)]:
            _create(admin, catalog, topics)
        elif granted := [change.right for change in same if isinstance(change, Grant)]:
            _grant(admin, granted)
        else:
            for change in same:
                _apply(admin, change)


def _apply(admin: Admin, change: Change) -> None:
    match change:
        case AddPartitions(topic):
            with admin.use() as client:
                grown = client.create_partitions([NewPartitions(topic.name, topic.partitions)])
                admin.ask(str(change), grown[topic.name])
        case SetConfig(topic_name, name, _, declared):
            _set(admin, topic_name, name, declared)
        case Withdraw(binding):
            only = exactly(binding)
            with admin.use() as client:
                admin.ask(str(change), client.delete_acls([only])[only])
        case StartMark(lane, partition):
            _start(admin, lane, partition)
        case CreateTopic() | Grant():
            raise AssertionError("is applied with its neighbours")
        case _:
            assert_never(change)


def _grant(admin: Admin, rights: list[Right]) -> None:
    bindings = [binding_of(right) for right in rights]
    with admin.use() as client:
        futures = client.create_acls(bindings)
        for right, binding in zip(rights, bindings, strict=True):
            admin.ask(str(Grant(right)), futures[binding])


def _create(admin: Admin, catalog: Catalog, topics: list[Topic]) -> None:
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=catalog.durability.replication,
            config=dict(catalog.config(topic)),
        )
        for topic in topics
    ]
    with admin.use() as client:
        futures = client.create_topics(new, operation_timeout=REQUEST_TIMEOUT_S)
        for topic in topics:
            admin.ask(f"create topic {topic.name}", futures[topic.name])


def _config_changes(admin: Admin, catalog: Catalog, counts: dict[str, int]) -> Iterator[SetConfig]:
    topics = [topic for topic in catalog.topics if topic.name in counts]
    if not topics:
        return
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic.name) for topic in topics]
    with admin.use() as client:
        futures = client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        answers = [admin.ask(f"settings of {r.name}", futures[r]) for r in resources]
    for topic, actual in zip(topics, answers, strict=True):
        for name, declared in catalog.config(topic).items():
            entry = actual.get(name)
            # A value that only happens to be the broker's default is not ours to rely on.
            dynamic = entry and ConfigSource(entry.source) == ConfigSource.DYNAMIC_TOPIC_CONFIG
            if entry is None or entry.value != declared or not dynamic:
                yield SetConfig(topic.name, name, entry and entry.value, declared)


def _set(admin: Admin, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    with admin.use() as client:
        futures = client.incremental_alter_configs([resource])
        admin.ask(f"set {name} of {topic}", futures[resource])


def _right_changes(admin: Admin, catalog: Catalog) -> Iterator[Change]:
    with admin.use() as client:
        bindings = admin.ask("access rights", client.describe_acls(EVERY_BINDING))
    declared = rights(catalog)
    actual = {right_of(binding) for binding in bindings}
    yield from (Grant(right) for right in sorted(declared - actual))
    yield from (Withdraw(binding) for binding in bindings if right_of(binding) not in declared)


def _missing_marks(
    admin: Admin, catalog: Catalog, counts: dict[str, int]
) -> tuple[list[StartMark], list[Partition]]:
    """What can be begun, and what only a repair can tell the mark of."""
    starts: list[StartMark] = []
    needs_repair: list[Partition] = []
    if admin.has_members(ROUTER):
        return starts, needs_repair
    cutouts_partitions = _partitions(map(cutouts_of, catalog.lane_names), counts)
    ephemeral_partitions = _partitions(map(ephemeral_of, catalog.lane_names), counts)
    begun = GroupOffsets(admin.connection, timeout_s=admin.timeout_s).committed(
        ROUTER, cutouts_partitions
    )
    held = _held_records(admin, cutouts_partitions + ephemeral_partitions)
    for spec in catalog.lanes:
        cutouts, ephemeral = cutouts_of(spec.name), ephemeral_of(spec.name)
        for number in range(spec.partitions):
            if Partition(cutouts, number) in begun:
                continue
            if Partition(ephemeral, number) in held:
                needs_repair.append(Partition(cutouts, number))
            elif Partition(cutouts, number) not in held:
                starts.append(StartMark(spec.name, number))
    return starts, needs_repair


def _partitions(topics: Iterable[str], counts: dict[str, int]) -> list[Partition]:
    return [Partition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]


def _held_records(admin: Admin, partitions: list[Partition]) -> set[Partition]:
    if not partitions:
        return set()
    return {at for at, end in OffsetQueries(admin).log_ends(partitions).items() if end > 0}


def _start(admin: Admin, lane: Lane, partition: int) -> None:
    topic_id = OffsetQueries(admin).topic_ids([uploads_of(lane)])[uploads_of(lane)]
    mark = ReplayMark(topic_id=topic_id, offset=-1)
    at = Partition(cutouts_of(lane), partition)
    groups = GroupOffsets(admin.connection, timeout_s=admin.timeout_s)
    groups.commit(ROUTER, at, 0, metadata=str(mark))
