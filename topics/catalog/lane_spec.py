"""One lane of the settings, in the terms of the catalog."""

from dataclasses import dataclass, field

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.quotas import LaneQuota
from erasestream.topics.catalog.retention_budget import LaneTimes


@dataclass(frozen=True, kw_only=True)
class LaneSpec:
    """One lane of the settings."""

    name: Lane
    partitions: int = 4
    times: LaneTimes = field(default_factory=LaneTimes)
    quota: LaneQuota = field(default_factory=LaneQuota)
