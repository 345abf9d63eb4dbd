"""Provisioning plan: every difference between the catalog and the cluster.

Rules:

* The plan is complete, so that a person can review it before anything changes; once it is applied,
  the next plan is empty.
* Rights of our roles that the catalog does not name are revoked; foreign rules stay
  (`rights_plan.py`).  Topics that it does not name are left unchanged and reported.
* Client quotas of the lanes' roles are set (`quota_plan.py`).
* Partition counts only grow, those of uploads last.  Those of a topic whose
  records are placed by account (`consent.L`, `ledger.L`, `erasures.L`) never change, because the
  partition of an account is computed from them.
* Every new partition of `cutouts.L` gets the router group's first offset together with its first
  replay mark (`replay_mark.py`), on the same evidence that the router requires: the partition of
  `ephemeral.L` never held a record, so nothing was routed.
* Any other partition from which the router cannot go on, such as one whose offset has expired, is
  left unchanged and reported, for `erasestream repair`.
* What the promise needs of the brokers themselves is checked and reported (`cluster_checks.py`).
* While routers run no other client may commit for their group: they start new partitions
  themselves.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.installation import Environment
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.cluster_checks import SetBrokerConfig, check_cluster
from erasestream.topics.admin.installation_mark import MarkInstallation, marked_environment
from erasestream.topics.admin.quota_plan import SetQuota, plan_quotas
from erasestream.topics.admin.rights_plan import GrantRight, RevokeRight, plan_rights
from erasestream.topics.admin.routing_evidence import is_broken
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic import Topic
from erasestream.topics.catalog.topic_names import INSTALLATION, cutouts_of, ephemeral_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.topic_admin import topic_settings


@dataclass(frozen=True)
class CreateTopic:
    """A missing topic."""

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
class CommitFirstMark:
    """A partition of cut-outs without an offset and replay mark of the router."""

    lane: Lane
    partition: int

    def __str__(self) -> str:
        return f"start the router at partition {self.partition} of {cutouts_of(self.lane)}"


Change = (
    CreateTopic
    | AddPartitions
    | SetConfig
    | SetBrokerConfig
    | GrantRight
    | RevokeRight
    | SetQuota
    | CommitFirstMark
    | MarkInstallation
)


@dataclass(frozen=True)
class Plan:
    """Changes in the order of their application, and reports of what is left unchanged."""

    changes: tuple[Change, ...]
    unknown_topics: tuple[str, ...] = ()
    needs_repair: tuple[Partition, ...] = ()
    """Partitions from which the router cannot go on: no offset, no mark, or quarantined."""
    foreign_rules: tuple[str, ...] = ()
    """Access rules that are not ours, and stay."""
    unset_quotas: tuple[SetQuota, ...] = ()
    """Quotas that this cluster does not let the administrator set."""
    shortfalls: tuple[str, ...] = ()
    """Losses of the promise by settings of the cluster."""
    unseen: tuple[str, ...] = ()
    """Needs of the promise that no request shows."""


def plan(admin: Admin, catalog: Catalog) -> Plan:
    """Compare the cluster with the catalog.  Raises `Refused` for changes that break a promise."""
    counts = admin.partition_counts()
    changes: list[Change] = [*_topic_changes(catalog, counts)]
    changes += _config_changes(admin, catalog, counts)
    images = [topic.name for topic in catalog.topics if topic.lifetime and topic.name in counts]
    report = check_cluster(admin, catalog, images)
    changes += report.changes
    rights, quotas = plan_rights(admin, catalog), plan_quotas(admin, catalog)
    changes += [*rights.changes, *quotas.changes]
    first_marks, needs_repair = _missing_marks(admin, catalog, counts)
    changes += first_marks
    changes += _installation_changes(admin, catalog, counts)
    known = {topic.name for topic in catalog.topics}
    unknown = sorted(name for name in counts if name not in known and name[:2] != "__")
    return Plan(
        tuple(changes),
        tuple(unknown),
        tuple(needs_repair),
        foreign_rules=rights.foreign,
        unset_quotas=quotas.not_settable,
        shortfalls=report.shortfalls,
        unseen=report.unseen,
    )


def _topic_changes(catalog: Catalog, counts: dict[str, int]) -> Iterator[Change]:
    for topic in catalog.topics:
        actual = counts.get(topic.name)
        if actual is None:
            yield CreateTopic(topic)
        elif actual < topic.partitions:
            if topic.is_placed_by_account:
                raise Refused(
                    f"{topic.name} has {actual} partitions, and that never changes: declare as many"
                )
            yield AddPartitions(topic, actual)
        elif actual > topic.partitions:
            raise Refused(
                f"{topic.name} has {actual} partitions, and counts never shrink: declare as many"
            )


def _config_changes(admin: Admin, catalog: Catalog, counts: dict[str, int]) -> Iterator[SetConfig]:
    topics = [topic for topic in catalog.topics if topic.name in counts]
    settings = topic_settings(admin, [topic.name for topic in topics])
    for topic, actual in zip(topics, settings, strict=True):
        for name, declared in catalog.config(topic).items():
            setting = actual.get(name)
            # A value inherited from the broker's defaults can change with them.
            if setting is None or setting.value != declared or not setting.is_own:
                yield SetConfig(topic.name, name, setting and setting.value, declared)


def _installation_changes(
    admin: Admin, catalog: Catalog, counts: dict[str, int]
) -> Iterator[MarkInstallation]:
    is_new = INSTALLATION not in counts
    marked = Environment.PRODUCTION if is_new else marked_environment(admin.connection)
    if marked is not catalog.environment:
        yield MarkInstallation(catalog.environment)


def _missing_marks(
    admin: Admin, catalog: Catalog, counts: dict[str, int]
) -> tuple[list[CommitFirstMark], list[Partition]]:
    """Return the partitions that can be started, and those that need a repair."""
    first_marks: list[CommitFirstMark] = []
    needs_repair: list[Partition] = []
    all_cutouts = _partitions(map(cutouts_of, catalog.lane_names), counts)
    all_ephemeral = _partitions(map(ephemeral_of, catalog.lane_names), counts)
    groups = GroupOffsets(admin.connection, timeout_s=admin.timeout_s)
    started = groups.committed(ROUTER, all_cutouts)
    used = _used_partitions(admin, all_cutouts + all_ephemeral)
    for spec in catalog.lanes:
        for number in range(spec.partitions):
            cutouts = Partition(cutouts_of(spec.name), number)
            found = started.get(cutouts)
            if not is_broken(found):
                continue
            if found or Partition(ephemeral_of(spec.name), number) in used:
                needs_repair.append(cutouts)
            elif cutouts not in used:
                first_marks.append(CommitFirstMark(spec.name, number))
    if first_marks and admin.has_members(ROUTER):
        return [], needs_repair
    return first_marks, needs_repair


def _partitions(topics: Iterable[str], counts: dict[str, int]) -> list[Partition]:
    return [Partition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]


def _used_partitions(admin: Admin, partitions: list[Partition]) -> set[Partition]:
    """Return the partitions to which a record was ever written."""
    if not partitions:
        return set()
    return {at for at, end in OffsetQueries(admin).log_ends(partitions).items() if end > 0}
