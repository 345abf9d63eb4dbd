"""One row of the catalog (`catalog.py`): a topic."""

from dataclasses import dataclass
from enum import StrEnum

from erasestream.schemas.codec.cloudevents import max_value_bytes
from erasestream.schemas.events.base import Event
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.retention_budget import Lifetime, SupersededLifetime
from erasestream.topics.catalog.roles import Role
from erasestream.topics.catalog.topic_names import RECORD_OVERHEAD_BYTES


class Key(StrEnum):
    """Kind of a record's key."""

    NONE = "none"
    ACCOUNT = "account"
    LANE_AND_ACCOUNT = "lane/account"
    LANE = "lane"
    UPLOAD_ID = "upload id"
    KEY_ID = "key id"
    IMAGE_KEY = "image key"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic.  `lifetime` is None for topics without images.

    These are permanent, but for those with a `metadata_lifetime`.
    """

    name: str
    events: tuple[type[Event], ...]
    key: Key
    partitions: int
    writers: tuple[Role, ...]
    readers: tuple[Role, ...]
    purgers: tuple[Role, ...] = ()
    lifetime: Lifetime | None = None
    metadata_lifetime: Lifetime | None = None
    """Lifetime of the records of a topic that is about images, and has none."""
    superseded: SupersededLifetime | None = None
    """Lifetime of records that a newer one of their key supersedes; None if not compacted."""

    sealing: Sealing | None = None
    """Whether every image in it is sealed; None for topics without images."""
    max_image_bytes: int | None = None
    """Largest image in it; None for the largest that its events may have."""

    @property
    def compacted(self) -> bool:
        """Whether the brokers compact the topic to the last record of each key."""
        return self.superseded is not None

    @property
    def is_placed_by_account(self) -> bool:
        """Whether the partition of a record is computed from its account."""
        return self.key in (Key.ACCOUNT, Key.LANE_AND_ACCOUNT)

    @property
    def max_record_bytes(self) -> int:
        """Largest record that the brokers accept in this topic."""
        largest = max(map(max_value_bytes, self.events))
        return min(largest, self.max_image_bytes or largest) + RECORD_OVERHEAD_BYTES
