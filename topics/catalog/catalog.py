"""Table of all topics: events, sizes, lifetimes, writers and readers.

Everything else is derived from this table and never written by hand: the topics' configuration
(`config`), the access rights (`acl.py`), the plan of provisioning (`admin/provisioning.py`) and
the sums of the promise (`retention_budget.py`).

Each lane has topics of its own, which no other lane can read or write; the shared ones, `retained`
and `ledger`, are for the stages, operators and the administrator.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.consent import ConsentDecision
from erasestream.schemas.events.images import Cutout, Failure, Retained, Upload
from erasestream.schemas.events.installation import Environment, InstallationMarked
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry, Finding, Repair
from erasestream.schemas.ids import LANE_PATTERN, Lane
from erasestream.topics.catalog import compression, retention_budget
from erasestream.topics.catalog.quotas import ACCOUNT_SHARE, LaneQuota
from erasestream.topics.catalog.retention_budget import (
    LaneTimes,
    Policy,
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
from erasestream.topics.catalog.topic import Key, Topic
from erasestream.topics.catalog.topic_names import (
    INSTALLATION,
    LEDGER,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    erasures_of,
    ledger_of,
    revocations_of,
    uploads_of,
)


@dataclass(frozen=True, kw_only=True)
class LaneSpec:
    """One lane of the settings."""

    name: Lane
    partitions: int = 4
    times: LaneTimes = field(default_factory=LaneTimes)
    quota: LaneQuota = field(default_factory=LaneQuota)


@dataclass(frozen=True, kw_only=True)
class Durability:
    """Replicas of every record, and how many must be in sync to acknowledge a write."""

    replication: int = 3
    min_insync: int = 2


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All topics of one installation.  `build()` refuses lifetimes that exceed the promise."""

    lanes: tuple[LaneSpec, ...]
    policy: Policy
    durability: Durability
    topics: tuple[Topic, ...]
    environment: Environment = Environment.PRODUCTION

    @classmethod
    def build(
        cls,
        lanes: tuple[LaneSpec, ...],
        *,
        policy: Policy | None = None,
        durability: Durability | None = None,
        consent_partitions: int = 4,
        retained_partitions: int = 4,
        environment: Environment = Environment.PRODUCTION,
    ) -> "Catalog":
        """Build the table for these lanes.  Raises `Refused` for an invalid lane or lifetime.

        `consent_partitions`, of each topic whose records are placed by account and of `ledger`,
        never change; `retained_partitions` can grow.  The settings have larger defaults.
        In a development stack, which has no owners, operators may write grants.
        """
        policy = policy or Policy()
        _check_lanes(lanes)
        operators = (OPERATOR,) if environment is Environment.DEVELOPMENT else ()
        topics = tuple(_topics(lanes, policy, consent_partitions, retained_partitions, operators))
        for topic in topics:
            if topic.lifetime:
                retention_budget.verify(policy, topic.name, topic.lifetime)
        return cls(
            lanes=lanes,
            policy=policy,
            durability=durability or Durability(),
            topics=topics,
            environment=environment,
        )

    def __getitem__(self, name: str) -> Topic:
        """Return the topic of this name, or raise `KeyError`."""
        return {topic.name: topic for topic in self.topics}[name]

    def lane(self, name: Lane) -> LaneSpec:
        """Return the lane of this name, or raise `Refused`."""
        for spec in self.lanes:
            if spec.name == name:
                return spec
        raise Refused(f"there is no lane {name}; the settings have {', '.join(self.lane_names)}")

    @property
    def lane_names(self) -> tuple[Lane, ...]:
        """Names of all lanes."""
        return tuple(spec.name for spec in self.lanes)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every role that has a certificate."""
        of_lanes = (lane_role(lane, role) for lane in self.lane_names for role in LaneRole)
        return (*STAGE_ROLES, *of_lanes)

    @property
    def quotas(self) -> Mapping[Role, Mapping[str, float]]:
        """Limits of every lane's roles on each broker, by Kafka's names."""
        return {
            lane_role(spec.name, role): spec.quota.entries(
                ACCOUNT_SHARE if role is LaneRole.ACCOUNT else 1.0
            )
            for spec in self.lanes
            for role in LaneRole
        }

    def config(self, topic: Topic) -> Mapping[str, str]:
        """Return the configuration of a topic; every entry is set explicitly and audited."""
        config = {
            "max.message.bytes": str(topic.max_record_bytes),
            "message.timestamp.type": "LogAppendTime",
            "compression.type": compression.IMAGES if topic.lifetime else compression.JSON,
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
            raise Refused(f"a lane cannot be named {name!r}")
    if len(set(names)) != len(names) or not names:
        raise Refused("there must be at least one lane, and names must be unique")


def _topics(
    lanes: tuple[LaneSpec, ...],
    policy: Policy,
    placed: int,
    retained: int,
    granting: tuple[Role, ...],
) -> Iterator[Topic]:
    """Yield all topics; `granting`: the operators that may grant."""
    for spec in lanes:
        yield from _image_topics(spec, policy)
        yield _consent_topic(spec.name, policy, placed, granting)
        yield from _history_topics(spec.name, placed, granting)
    yield Topic(
        name=RETAINED,
        events=(Retained,),
        key=Key.UPLOAD_ID,
        partitions=retained,
        writers=(ROUTER,),
        readers=(SINK,),
        purgers=(PURGER,),
        lifetime=retention_budget.retained(policy, tuple(spec.times for spec in lanes)),
    )
    yield Topic(
        name=LEDGER,
        events=(Finding, Repair),
        key=Key.LANE,
        partitions=placed,
        writers=(ROUTER, ERASER, ADMIN),
        readers=(OPERATOR, AUDITOR),
    )
    yield Topic(
        name=INSTALLATION,
        events=(InstallationMarked,),
        key=Key.NONE,
        partitions=1,
        writers=(ADMIN,),
        readers=(
            *(lane_role(spec.name, LaneRole.ACCOUNT) for spec in lanes),
            OPERATOR,
            ROUTER,
            SINK,
            AUDITOR,
        ),
    )


def _image_topics(spec: LaneSpec, policy: Policy) -> Iterator[Topic]:
    lane = spec.name
    # In the order of creation: a partition of results exists before its partition of uploads.
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


def _consent_topic(lane: Lane, policy: Policy, placed: int, granting: tuple[Role, ...]) -> Topic:
    account = lane_role(lane, LaneRole.ACCOUNT)
    return Topic(
        name=consent_of(lane),
        events=(ConsentDecision,),
        key=Key.ACCOUNT,
        partitions=placed,
        writers=(account, *granting, ERASER),  # the eraser writes heartbeats
        readers=(account, OPERATOR, ROUTER, SINK, ERASER),
        superseded=retention_budget.superseded(policy),
    )


def _history_topics(lane: Lane, placed: int, granting: tuple[Role, ...]) -> Iterator[Topic]:
    account = lane_role(lane, LaneRole.ACCOUNT)
    yield Topic(
        name=ledger_of(lane),
        events=(DecisionEntry, ErasureEntry, Finding),
        key=Key.LANE_AND_ACCOUNT,
        partitions=placed,
        writers=(account, *granting, ROUTER, ERASER),
        readers=(account, OPERATOR, ERASER, AUDITOR),
    )
    yield Topic(
        name=erasures_of(lane),
        events=(ErasureEntry,),
        key=Key.LANE_AND_ACCOUNT,
        partitions=placed,
        writers=(ERASER,),
        readers=(account, OPERATOR, ERASER, AUDITOR),
    )
    yield Topic(
        name=revocations_of(lane),
        events=(ConsentDecision,),
        key=Key.ACCOUNT,
        partitions=1,
        writers=(OPERATOR,),
        readers=(account, OPERATOR, ROUTER, SINK, ERASER, AUDITOR),
    )
