"""Retention budget: the worst age of a byte on disk, and the shortest life of a record.

Kafka deletes whole segments, judged by their newest record, at the next retention check, and
frees the bytes some time later.  So the worst age on disk of a record is

    its age when appended + segment.ms + retention.ms
        + log.retention.check.interval.ms + file.delete.delay.ms

Measured on Kafka 4.4 with 69 records: worst 32.9 s against a bound of 33 s.  Two inequalities
must hold:

* Short enough: in every image topic the worst age is within the promise, less a reserve for
  clock error and for broker downtime.
* Long enough: a record outlives the promised outage of the next stage.

No I/O, no clock.  All times in seconds.
"""

from dataclasses import dataclass, field

from erasestream.schemas.errors import PromiseExceeded

HOUR_S = 3600.0

PROMISE_S = 24 * HOUR_S
"""Every byte of an image is deleted within this time of its upload."""

RESERVE_S = 1 * HOUR_S
"""Reserve for clock error and broker downtime."""

JUDGED_TO_APPENDED_S = 60.0
"""Longest time from the check that a record is young enough to its append.  The request, delivery
and transaction timeouts of the stages are derived from it."""

ROUNDING_S = 1e-6
"""Largest rounding error of the sums; Kafka counts in milliseconds."""

CLEANING_S = 60.0
"""Longest run of the log cleaner over all consent topics."""

PICK_UP_S = 0.5 * HOUR_S
"""Retention of uploads beyond the backlog limit, so that inference still sees expired ones."""


@dataclass(frozen=True, kw_only=True)
class BrokerTimes:
    """Intervals in the brokers' configuration: retention check, file deletion, cleaner backoff."""

    check_interval_s: float = 300.0
    delete_delay_s: float = 60.0
    cleaner_backoff_s: float = 15.0
    """Sleep of an idle log cleaner; Kafka's default."""


@dataclass(frozen=True, kw_only=True)
class LaneTimes:
    """Split of the promise within a lane.

    `backlog_limit_s`: an upload older than this is not processed.
    `delivery_s`: shortest time for which a result can be fetched; None takes all that is left.
    """

    backlog_limit_s: float = 4 * HOUR_S
    delivery_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The promise, and the outages that records outlive."""

    promise_s: float = PROMISE_S
    reserve_s: float = RESERVE_S
    segment_s: float = 0.25 * HOUR_S
    judged_to_appended_s: float = JUDGED_TO_APPENDED_S
    pick_up_s: float = PICK_UP_S
    router_outage_s: float = 4 * HOUR_S
    sink_outage_s: float = 12 * HOUR_S
    broker: BrokerTimes = field(default_factory=BrokerTimes)

    @property
    def overhead_s(self) -> float:
        """Longest time that a record can outlive retention.ms."""
        return self.segment_s + self.broker.check_interval_s + self.broker.delete_delay_s

    @property
    def budget_s(self) -> float:
        """Largest allowed worst age."""
        return self.promise_s - self.reserve_s

    @property
    def heartbeat_s(self) -> float:
        """Interval between heartbeat records in every partition of a compacted topic."""
        return self.segment_s / 3


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """Lifetime of the records of one image topic, with the terms of its sum."""

    age_when_appended_s: float
    segment_s: float
    retention_s: float
    needed_s: float
    """Shortest retention with which the next stage cannot miss a record."""
    check_interval_s: float
    delete_delay_s: float

    @property
    def worst_age_s(self) -> float:
        """Largest age of a byte in this topic, counted from the upload."""
        return (
            self.age_when_appended_s
            + self.segment_s
            + self.retention_s
            + self.check_interval_s
            + self.delete_delay_s
        )

    @property
    def retention_ms(self) -> int:
        """`retention.ms` of the topic."""
        return int(self.retention_s * 1000)

    @property
    def segment_ms(self) -> int:
        """`segment.ms` of the topic."""
        return int(self.segment_s * 1000)


@dataclass(frozen=True, kw_only=True)
class SupersededLifetime:
    """Time that a superseded record of a compacted topic stays on disk.

    The newer record of the key is in a segment that rolls with the first record appended after
    `segment_s`; a heartbeat arrives within `heartbeat_s`.  Then the cleaner wakes and rewrites
    the log without the older record, and Kafka deletes the old files after a delay.
    `max.compaction.lag.ms` and the minimum dirty ratio are set so that nothing else delays it.
    """

    segment_s: float
    heartbeat_s: float
    cleaner_s: float
    delete_delay_s: float

    @property
    def worst_age_s(self) -> float:
        """Longest time on disk, counted from the append of the newer record."""
        return self.segment_s + self.heartbeat_s + self.cleaner_s + self.delete_delay_s


def superseded(policy: Policy) -> SupersededLifetime:
    """Return the lifetime of superseded consent decisions."""
    return SupersededLifetime(
        segment_s=policy.segment_s,
        heartbeat_s=policy.heartbeat_s,
        cleaner_s=policy.broker.cleaner_backoff_s + CLEANING_S,
        delete_delay_s=policy.broker.delete_delay_s,
    )


def _lifetime(policy: Policy, *, age_s: float, retention_s: float, needed_s: float) -> Lifetime:
    return Lifetime(
        age_when_appended_s=age_s,
        segment_s=policy.segment_s,
        retention_s=retention_s,
        needed_s=needed_s,
        check_interval_s=policy.broker.check_interval_s,
        delete_delay_s=policy.broker.delete_delay_s,
    )


def appended_age_s(policy: Policy, lane: LaneTimes) -> float:
    """Return the largest age of an upload when inference or the router appends its result."""
    return lane.backlog_limit_s + policy.judged_to_appended_s


def uploads(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Return the lifetime of a lane's uploads: the backlog limit, plus time to report expiry."""
    needed_s = lane.backlog_limit_s + policy.pick_up_s
    return _lifetime(policy, age_s=0.0, retention_s=needed_s, needed_s=needed_s)


def cutouts(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Return the lifetime of a lane's results before the router."""
    needed_s = policy.router_outage_s
    age_s = appended_age_s(policy, lane)
    return _lifetime(policy, age_s=age_s, retention_s=needed_s, needed_s=needed_s)


def ephemeral(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Return the lifetime of the results for customers: all that the promise leaves, or less."""
    age_s = appended_age_s(policy, lane)
    left_s = policy.budget_s - age_s - policy.overhead_s
    retention_s = left_s if lane.delivery_s is None else lane.delivery_s
    return _lifetime(policy, age_s=age_s, retention_s=retention_s, needed_s=policy.segment_s)


def retained(policy: Policy, lanes: tuple[LaneTimes, ...]) -> Lifetime:
    """Return the lifetime of the images for the encryption sink."""
    age_s = max((appended_age_s(policy, lane) for lane in lanes), default=0.0)
    needed_s = policy.sink_outage_s
    return _lifetime(policy, age_s=age_s, retention_s=needed_s, needed_s=needed_s)


def metadata(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Return the lifetime of what a gateway knows about the images of a lane.

    As long as the image, and as long again, in which its id is answered with when it was gone.
    """
    age_s = appended_age_s(policy, lane)
    retention_s = 2 * policy.promise_s - age_s - policy.overhead_s
    return _lifetime(policy, age_s=age_s, retention_s=retention_s, needed_s=policy.promise_s)


def verify(policy: Policy, topic: str, lifetime: Lifetime) -> None:
    """Check both inequalities for one topic.

    Raises `PromiseExceeded` with the sum that fails, and for a promise above `PROMISE_S`, which
    no setting can extend.
    """
    if not (policy.promise_s <= PROMISE_S and policy.reserve_s >= 0):
        raise PromiseExceeded(
            f"promised {policy.promise_s:.0f} s with a reserve of {policy.reserve_s:.0f} s, "
            f"allowed {PROMISE_S:.0f} s",
        )
    # Negated, so that NaN is refused.
    if not lifetime.worst_age_s <= policy.budget_s + ROUNDING_S:
        raise PromiseExceeded(
            f"{topic}: worst age {lifetime.worst_age_s:.0f} s, allowed {policy.budget_s:.0f} s",
        )
    if lifetime.retention_s < lifetime.needed_s or lifetime.retention_ms < 1:
        raise PromiseExceeded(
            f"{topic}: retention {lifetime.retention_s:.0f} s, needed {lifetime.needed_s:.0f} s; "
            "shorten the backlog limit or the promised outages",
        )
