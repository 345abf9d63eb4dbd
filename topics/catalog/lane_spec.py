"""One lane of the settings, in the terms of the catalog."""

from dataclasses import dataclass, field
from enum import StrEnum

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.quotas import LaneQuota
from erasestream.topics.catalog.retention_budget import LaneTimes


class Sealing(StrEnum):
    """Whether the uploads of a lane must be sealed."""

    REQUIRED = "required"
    ACCEPTED = "accepted"
    """Unsealed uploads are taken as well; their results are not sealed either."""


@dataclass(frozen=True, kw_only=True)
class LaneSpec:
    """One lane of the settings."""

    name: Lane
    partitions: int = 4
    times: LaneTimes = field(default_factory=LaneTimes)
    quota: LaneQuota = field(default_factory=LaneQuota)
    sealing: Sealing = Sealing.REQUIRED
    gateway: bool = False
    """Whether customers reach the lane through a gateway, with API keys."""
