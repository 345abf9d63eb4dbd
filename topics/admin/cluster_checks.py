"""Check what the promise needs of a cluster beside its topics and rights.

Reports, and refuses nothing: who runs the brokers decides on these settings, and a managed service
may neither show nor change them.  The report lists what no request shows, to be looked up.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from erasestream.schemas.errors import NotAuthorized
from erasestream.topics.admin.default_deny import is_denied_by_default
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.broker_settings import BrokerSetting, broker_settings
from erasestream.topics.kafka.topic_admin import Setting, topic_settings

OFFSETS_KEPT_MINUTES = 365 * 24 * 60
"""The routers' committed offsets carry the replay marks, and a lane may be idle for long."""

DEFAULT_DENY = "allow.everyone.if.no.acl.found"

TIERED = (
    "remote.storage.enable",
    "confluent.tier.enable",
    "redpanda.remote.write",
    "redpanda.storage.mode",
)
"""Topic settings of tiered storage: Kafka's (KIP-405), and those of two other brokers."""
NOT_TIERED = ("false", "local", "unset")

NEVER_VISIBLE = (
    "snapshots, backups and mirrors of the brokers' disks",
    "encryption of the brokers' disks",
)


@dataclass(frozen=True)
class SetBrokerConfig:
    """A setting of the brokers that has to be another, and can be changed while they run."""

    name: str
    actual: str | None
    declared: str

    def __str__(self) -> str:
        return f"set {self.name} of the brokers from {self.actual} to {self.declared}"


@dataclass(frozen=True)
class ClusterReport:
    """Findings about a cluster."""

    changes: tuple[SetBrokerConfig, ...]
    shortfalls: tuple[str, ...]
    """Losses of the promise, each as a line for a person."""
    unseen: tuple[str, ...]
    """Settings and facts that no request shows."""


@dataclass(frozen=True)
class _Need:
    """Requirement on a setting of the brokers, which `value` fulfils."""

    name: str
    is_met: Callable[[str], bool]
    value: str
    loses: str


def check_cluster(admin: Admin, catalog: Catalog, image_topics: Sequence[str]) -> ClusterReport:
    """Compare the brokers' settings, and tiered storage of these topics, with the promise."""
    try:
        brokers = broker_settings(admin)
    except NotAuthorized:
        brokers = []
    changes: list[SetBrokerConfig] = []
    shortfalls = list(_tiered(image_topics, topic_settings(admin, image_topics)))
    unseen: list[str] = []
    is_denied = is_denied_by_default(admin.connection.cluster, catalog.roles)
    if is_denied is False:
        shortfalls.append(f"{DEFAULT_DENY} must be false: strangers may use what no rule names")
    for need in _needs(catalog):
        if need.name == DEFAULT_DENY and is_denied is not None:
            continue  # proven by the brokers' answer, or reported above
        found = [broker[need.name] for broker in brokers if need.name in broker]
        shown = [each for each in found if each.value is not None]
        if not shown or len(shown) < len(brokers):
            unseen.append(f"{need.name}, which must be {need.value}: otherwise {need.loses}")
        wrong = [each for each in shown if not _is_met(need, each)]
        if wrong and not any(each.is_read_only for each in wrong):
            changes.append(SetBrokerConfig(need.name, wrong[0].value, need.value))
        elif wrong:
            line = f"{need.name} is {wrong[0].value} and must be {need.value}: {need.loses}"
            shortfalls.append(line)
    shortfalls += _plaintext(brokers)
    return ClusterReport(tuple(changes), tuple(shortfalls), (*unseen, *NEVER_VISIBLE))


def _needs(catalog: Catalog) -> tuple[_Need, ...]:
    times = catalog.policy.broker
    largest = max(topic.max_record_bytes for topic in catalog.topics)
    return (
        _exactly(DEFAULT_DENY, "false", "strangers use what no rule names"),
        _exactly("auto.create.topics.enable", "false", "a mistyped name becomes a topic"),
        _at_least(
            "offsets.retention.minutes",
            OFFSETS_KEPT_MINUTES,
            "an idle lane loses its replay marks, and needs `erasestream repair`",
        ),
        _at_most(
            "log.retention.check.interval.ms",
            int(times.check_interval_s * 1000),
            "bytes outlive the sum of the lifetimes",
        ),
        _at_most(
            "log.segment.delete.delay.ms",
            int(times.delete_delay_s * 1000),
            "deleted bytes stay on disk beyond the sum of the lifetimes",
        ),
        _at_least("socket.request.max.bytes", largest, "the largest results cannot be written"),
    )


def _exactly(name: str, value: str, loses: str) -> _Need:
    return _Need(name, lambda actual: actual.lower() == value, value, loses)


def _at_least(name: str, least: int, loses: str) -> _Need:
    return _Need(name, lambda actual: int(actual) >= least, str(least), loses)


def _at_most(name: str, most: int, loses: str) -> _Need:
    return _Need(name, lambda actual: int(actual) <= most, str(most), loses)


def _is_met(need: _Need, setting: BrokerSetting) -> bool:
    try:
        return setting.value is not None and need.is_met(setting.value)
    except ValueError:
        return False


def _tiered(topics: Sequence[str], found: Sequence[Mapping[str, Setting]]) -> Iterator[str]:
    for topic, settings in zip(topics, found, strict=True):
        for name in TIERED:
            value = settings[name].value if name in settings else None
            if value is not None and value not in NOT_TIERED:
                yield f"{name} of {topic} is {value}: a copy of each image outlives its topic"


def _plaintext(brokers: Sequence[Mapping[str, BrokerSetting]]) -> Iterator[str]:
    """Yield the listeners that are not encrypted."""
    lines: set[str] = set()
    for broker in brokers:
        protocols = broker.get("listener.security.protocol.map")
        listeners = broker.get("listeners")
        if not (protocols and protocols.value and listeners and listeners.value):
            continue
        open_names = {each.partition("://")[0].strip() for each in listeners.value.split(",")}
        for pair in protocols.value.split(","):
            name, _, protocol = pair.partition(":")
            if protocol.endswith("PLAINTEXT") and name.strip() in open_names:
                lines.add(f"the listener {name.strip()} is {protocol}: images travel unencrypted")
    yield from sorted(lines)
