"""Catalog of all topics (`topic_table.py`): events, sizes, lifetimes, writers and readers.

Everything else is derived from this table and never written by hand: the topics' configuration
(`config`), the access rights (`acl.py`), the plan of provisioning (`admin/provisioning.py`) and
the sums of the promise (`retention_budget.py`).

Each lane has topics of its own, which no other lane can read or write; the shared ones, `retained`
and `ledger`, are for the stages, operators and the administrator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.installation import Environment
from erasestream.schemas.ids import Lane, is_lane
from erasestream.topics.catalog import compression, retention_budget
from erasestream.topics.catalog.image_sizes import ImageSizes
from erasestream.topics.catalog.lane_spec import LaneSpec
from erasestream.topics.catalog.principals import Principals
from erasestream.topics.catalog.quotas import ACCOUNT_SHARE
from erasestream.topics.catalog.retention_budget import Policy
from erasestream.topics.catalog.roles import OPERATOR, STAGE_ROLES, LaneRole, Role, lane_role
from erasestream.topics.catalog.topic import Topic
from erasestream.topics.catalog.topic_table import PartitionCounts, topics_of

__all__ = ["Catalog", "Durability", "LaneSpec"]


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
    principals: Principals = field(default_factory=Principals)
    sizes: ImageSizes = field(default_factory=ImageSizes)

    @classmethod
    def build(
        cls,
        lanes: tuple[LaneSpec, ...],
        *,
        policy: Policy | None = None,
        durability: Durability | None = None,
        consent_partitions: int = 4,
        history_partitions: int = 4,
        retained_partitions: int = 4,
        environment: Environment = Environment.PRODUCTION,
        principals: Principals | None = None,
        sizes: ImageSizes | None = None,
    ) -> "Catalog":
        """Build the table for these lanes.

        Raises `Refused` for an invalid lane, lifetime or principal.

        `consent_partitions`, of each lane's decisions, and `history_partitions`, of each lane's
        ledger and erasures and of `ledger`, never change; `retained_partitions` can grow.  The
        settings have larger defaults.
        In a development stack, which has no owners, operators may write grants.
        """
        policy = policy or Policy()
        _check_lanes(lanes)
        operators = (OPERATOR,) if environment is Environment.DEVELOPMENT else ()
        sizes = sizes or ImageSizes()
        counts = PartitionCounts(consent_partitions, history_partitions, retained_partitions)
        topics = tuple(
            replace(topic, max_image_bytes=sizes.largest_in(topic.events))
            for topic in topics_of(lanes, policy, counts, operators)
        )
        for topic in topics:
            if topic.lifetime:
                retention_budget.verify(policy, topic.name, topic.lifetime)
        catalog = cls(
            lanes=lanes,
            policy=policy,
            durability=durability or Durability(),
            topics=topics,
            environment=environment,
            principals=principals or Principals(),
            sizes=sizes,
        )
        catalog.principals.check(catalog.roles)
        return catalog

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
        if lifetime := topic.lifetime or topic.metadata_lifetime:
            config["retention.ms"] = str(lifetime.retention_ms)
            config["segment.ms"] = str(lifetime.segment_ms)
        if topic.compacted:
            config["max.compaction.lag.ms"] = config["segment.ms"]
            config["min.cleanable.dirty.ratio"] = "0.01"
        return config


def _check_lanes(lanes: tuple[LaneSpec, ...]) -> None:
    names = [spec.name for spec in lanes]
    for name in names:
        if not is_lane(name) or Role(name) in STAGE_ROLES:
            raise Refused(f"a lane cannot be named {name!r}")
    if len(set(names)) != len(names) or not names:
        raise Refused("there must be at least one lane, and names must be unique")
