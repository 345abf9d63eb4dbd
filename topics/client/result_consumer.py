"""Results of one lane: decode, drop duplicates, skip unreadable records, deliver, acknowledge.

Rules:

* A result is a `Cutout` or a `Failure`.
* A record that this release cannot decode is counted, logged and skipped.
* A result that was delivered in this session is not delivered again (`ack_tracker.py`).
* Acknowledgements come from any thread; the reading thread commits their offsets
  (`topics/kafka/consumer/group_consumer.py`).
"""

import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from erasestream.schemas.clocks import Clock
from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import Code, InvalidEvent, Refused
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.images import RESULTS, Cutout, Failure
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation, group_prefix
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import ephemeral_of
from erasestream.topics.client.ack_tracker import DeliveryTracker, ResultKey, ResultState
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.consumer.group_consumer import SESSION_S, GroupConsumer
from erasestream.topics.kafka.records import Record

log: logging.Logger = logging.getLogger(__name__)

_GROUP = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ReceivingLimits:
    """Bounds on memory and time."""

    max_queued_bytes: int = 32_000_000
    """Bytes to prefetch; exceeded by at most one fetch, which is one record or 16 MB."""
    remember: int = 65_536
    """Results that are remembered to detect duplicates, about 300 bytes each."""
    commit_every_s: float = 1.0
    """Interval of commits; later acknowledgements are redelivered after a kill."""
    max_processing_s: float = 300.0
    """Longest time between two polls; after it the partitions go to another member."""
    readiness_s: float = 15.0
    """Longest wait for the brokers' first answer."""

    def __post_init__(self) -> None:
        if self.max_processing_s < SESSION_S:
            raise Refused(f"max_processing_s must be at least {SESSION_S:g}")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One result.  `appended_at` is when the broker appended it, by the broker's clock."""

    event: Cutout | Failure
    partition: int
    offset: int
    appended_at: datetime
    _acknowledge: Callable[[], None] = field(repr=False, compare=False)

    def ack(self) -> None:
        """Acknowledge this result.  Never blocks; from any thread; idempotent."""
        self._acknowledge()


class ResultConsumer:
    """Reader of a lane's results in a group of the role `<lane>.consumer`."""

    def __init__(
        self, cluster: Cluster, lane: Lane, *, group: str, limits: ReceivingLimits, clock: Clock
    ) -> None:
        if not _GROUP.fullmatch(group):
            raise Refused("the name of a group must match [A-Za-z0-9._-]{1,64}")
        self.skipped: Counter[Code] = Counter()
        self.duplicates: int = 0
        self._tracker = DeliveryTracker(remember=limits.remember)
        role, topic = lane_role(lane, LaneRole.CONSUMER), ephemeral_of(lane)
        connection = Connection(cluster=cluster, role=role)
        with Admin(connection, timeout_s=limits.readiness_s) as admin:
            admin.check_rights({topic: [Operation.READ]})
        self._member = GroupConsumer(
            connection=connection,
            topic=topic,
            group=group_prefix(role) + group,
            acknowledgements=self._tracker,
            max_queued_bytes=limits.max_queued_bytes,
            max_processing_s=limits.max_processing_s,
            commit_every_s=limits.commit_every_s,
            clock=clock,
        )

    def poll(self, timeout_s: float) -> Delivery | None:
        """Return the next new result; None if no record came, or one that is not delivered."""
        record = self._member.poll(timeout_s)
        return None if record is None else self._delivery(record)

    def close(self) -> None:
        """Commit everything acknowledged and leave the group."""
        self._member.close()

    def _delivery(self, record: Record) -> Delivery | None:
        try:
            event = one_from_wire(RESULTS, record.headers, record.value)
        except InvalidEvent as invalid:
            self._skip(record, invalid)
            return None
        key = ResultKey.of(event.account, event.id)
        if self._tracker.track(record.at, record.offset, key) is not ResultState.NEW:
            self.duplicates += 1
            return None
        return Delivery(
            event=event,
            partition=record.at.number,
            offset=record.offset,
            appended_at=utc(record.appended_ms),
            _acknowledge=partial(self._tracker.acknowledge, record.at, record.offset, key),
        )

    def _skip(self, record: Record, invalid: InvalidEvent) -> None:
        self.skipped[invalid.code] += 1
        self._tracker.skip(record.at, record.offset)
        log.warning(
            "result_skipped",
            extra={
                "code": invalid.code,
                "topic": record.at.topic,
                "partition": record.at.number,
                "offset": record.offset,
            },
        )
