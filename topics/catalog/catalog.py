"""Every topic in one table: what flows in it, how large, how long, who writes, who reads.

Everything else is derived from this table and never written by hand: the topics'
configuration (`config`), the access rights (`acl.py`), what provisioning does
(`provision.py`) and the sums of the promise (`retention_budget.py`).

A lane has four topics of its own; `retained`, `ledger` and `erasures` belong to nobody's lane.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from erasestream.schemas.codec.cloudevents import max_value_bytes
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.consent import ConsentDecision
from erasestream.schemas.events.images import Cutout, Failure, Retained, Upload
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry, Finding, Repair
from erasestream.schemas.ids import LANE_PATTERN, Lane
from erasestream.topics.catalog import retention_budget
from erasestream.topics.catalog.retention_budget import (
    LaneTimes,
    Lifetime,
    Policy,
    SupersededLifetime,
)
from erasestream.topics.catalog.roles import (
    ADMIN,
    AUDITOR,
    ERASER,
    INFERENCE,
    OPERATOR,
    PURGER,
    ROUTER,
    SINK,
    STAGE_ROLES,
    LaneRole,
    Role,
    lane_role,
)
from erasestream.topics.catalog.topic_names import (
    ERASURES,
    LEDGER,
    RECORD_OVERHEAD_BYTES,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)


class Key(StrEnum):
    """What the key of a record is."""

    NONE = "none"
    ACCOUNT = "account"
    LANE_AND_ACCOUNT = "lane/account"
    UPLOAD_ID = "upload id"


@dataclass(frozen=True, kw_only=True)
class LaneSpec:
    """One lane, as it stands in the settings."""

    name: Lane
    partitions: int = 4
    times: LaneTimes = field(default_factory=LaneTimes)


@dataclass(frozen=True, kw_only=True)
class Durability:
    """Copies of every record, and how many must exist before a write is acknowledged."""

    replication: int = 3
    min_insync: int = 2


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic.  `lifetime` is None for topics without images, which are kept."""

    name: str
    events: tuple[type[Event], ...]
    key: Key
    partitions: int
    writers: tuple[Role, ...]
    readers: tuple[Role, ...]
    purgers: tuple[Role, ...] = ()
    lifetime: Lifetime | None = None
    superseded: SupersededLifetime | None = None
    """How soon what is no longer the last of its key is gone; None if nothing ever goes."""

    @property
    def compacted(self) -> bool:
        """Whether the brokers keep the last record of each key."""
        return self.superseded is not None

    @property
    def max_record_bytes(self) -> int:
        """Largest record that the brokers take in this topic."""
        return max(map(max_value_bytes, self.events)) + RECORD_OVERHEAD_BYTES


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All topics of one installation.  `build()` refuses what exceeds the promise."""

    lanes: tuple[LaneSpec, ...]
    policy: Policy
    durability: Durability
    topics: tuple[Topic, ...]

    @classmethod
    def build(
        cls,
        lanes: tuple[LaneSpec, ...],
        *,
        policy: Policy | None = None,
        durability: Durability | None = None,
        shared_partitions: int = 4,
    ) -> "Catalog":
        """The table for these lanes.  Raises `Refused` if a lane or a lifetime is wrong."""
        policy = policy or Policy()
        _check_lanes(lanes)
        topics = tuple(_topics(lanes, policy, shared_partitions))
        for topic in topics:
            if topic.lifetime:
                retention_budget.prove(policy, topic.name, topic.lifetime)
        return cls(lanes=lanes, policy=policy, durability=durability or Durability(), topics=topics)

    def __getitem__(self, name: str) -> Topic:
        """The topic of that name; `KeyError` if there is none."""
        return {topic.name: topic for topic in self.topics}[name]

    def lane(self, name: Lane) -> LaneSpec:
        """The lane of that name.  Raises `Refused` if the settings have none."""
        for spec in self.lanes:
            if spec.name == name:
                return spec
        raise Refused(f"there is no lane {name}; the settings have {', '.join(self.lane_names)}")

    @property
    def lane_names(self) -> tuple[Lane, ...]:
        """The names of all lanes."""
        return tuple(spec.name for spec in self.lanes)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every role that has a certificate."""
        of_lanes = (lane_role(lane, role) for lane in self.lane_names for role in LaneRole)
        return (*STAGE_ROLES, *of_lanes)

    def config(self, topic: Topic) -> Mapping[str, str]:
        """The configuration of a topic, every entry set explicitly and audited."""
        config = {
            "max.message.bytes": str(topic.max_record_bytes),
            "message.timestamp.type": "LogAppendTime",
            # Images are compressed already.  A batch that a client compressed is unfolded once,
            # by the broker, which refuses it above the limit; stored as it came, its 25 MB could
            # be 25 GB in every stage that reads it, again and again.
            "compression.type": "uncompressed",
            "min.insync.replicas": str(self.durability.min_insync),
            "unclean.leader.election.enable": "false",
            "file.delete.delay.ms": str(int(self.policy.broker.delete_delay_s * 1000)),
            "segment.ms": str(int(self.policy.segment_s * 1000)),
            "retention.bytes": "-1",
            "retention.ms": "-1",
            "cleanup.policy": "compact" if topic.compacted else "delete",
        }
        if topic.lifetime:
            config["retention.ms"] = str(topic.lifetime.retention_ms)
            config["segment.ms"] = str(topic.lifetime.segment_ms)
        if topic.compacted:
            config["max.compaction.lag.ms"] = config["segment.ms"]
            config["min.cleanable.dirty.ratio"] = "0.01"
        return config


def _check_lanes(lanes: tuple[LaneSpec, ...]) -> None:
    names = [spec.name for spec in lanes]
    for name in names:
        if not re.fullmatch(LANE_PATTERN, name) or Role(name) in STAGE_ROLES:
            raise Refused(f"a lane can not be called {name!r}")
    if len(set(names)) != len(names) or not names:
        raise Refused("lanes need names of their own, and there must be one at least")


def _topics(lanes: tuple[LaneSpec, ...], policy: Policy, shared: int) -> Iterator[Topic]:
    for spec in lanes:
        yield from _lane_topics(spec, policy, shared)
    accounts = tuple(lane_role(spec.name, LaneRole.ACCOUNT) for spec in lanes)
    yield Topic(
        name=RETAINED,
        events=(Retained,),
        key=Key.UPLOAD_ID,
        partitions=shared,
        writers=(ROUTER,),
        readers=(SINK,),
        purgers=(PURGER,),
        lifetime=retention_budget.retained(policy, tuple(spec.times for spec in lanes)),
    )
    yield Topic(
        name=LEDGER,
        events=(DecisionEntry, ErasureEntry, Finding, Repair),
        key=Key.LANE_AND_ACCOUNT,
        partitions=shared,
        writers=(*accounts, OPERATOR, ROUTER, ERASER, ADMIN),
        readers=(*accounts, OPERATOR, ERASER, AUDITOR),
    )
    yield Topic(
        name=ERASURES,
        events=(ErasureEntry,),
        key=Key.LANE_AND_ACCOUNT,
        partitions=shared,
        writers=(ERASER,),
        readers=(*accounts, OPERATOR, ERASER, AUDITOR),
    )


def _lane_topics(spec: LaneSpec, policy: Policy, shared: int) -> Iterator[Topic]:
    lane = spec.name
    account = lane_role(lane, LaneRole.ACCOUNT)
    # What comes behind has a partition before what comes before it does.
    yield Topic(
        name=cutouts_of(lane),
        events=(Cutout, Failure),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(INFERENCE,),
        readers=(ROUTER,),
        purgers=(PURGER,),
        lifetime=retention_budget.cutouts(policy, spec.times),
    )
    yield Topic(
        name=ephemeral_of(lane),
        events=(Cutout, Failure),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(ROUTER,),
        readers=(lane_role(lane, LaneRole.CONSUMER),),
        lifetime=retention_budget.ephemeral(policy, spec.times),
    )
    yield Topic(
        name=uploads_of(lane),
        events=(Upload,),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(lane_role(lane, LaneRole.PRODUCER),),
        readers=(INFERENCE, ROUTER),
        purgers=(PURGER,),
        lifetime=retention_budget.uploads(policy, spec.times),
    )
    yield Topic(
        name=consent_of(lane),
        events=(ConsentDecision,),
        key=Key.ACCOUNT,
        partitions=shared,
        writers=(account, OPERATOR, ERASER),  # the eraser: heartbeats
        readers=(account, OPERATOR, ROUTER, SINK, ERASER),
        superseded=retention_budget.superseded(policy),
    )
