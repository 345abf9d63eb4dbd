"""The arithmetic of deletion: how old can a byte get, and does every record live long enough.

Kafka deletes whole segments, judged by their newest record, when it looks, and frees the
bytes a while later.  So the worst age on disk of a record is

    its age when appended + segment.ms + retention.ms
        + log.retention.check.interval.ms + file.delete.delay.ms

measured on Kafka 4.4 with 69 records: worst 32.9 s against a bound of 33 s.  Two kinds of
sums must hold.  *Short enough*: for every image topic the worst age is within the promise,
less a reserve for clock error and for the time that a broker is down.  *Long enough*: a
record outlives the outage of the next stage that we promise to survive.

No I/O, no clock.  All times in seconds.
"""

from dataclasses import dataclass, field

from erasestream.schemas.errors import PromiseExceeded

HOUR_S = 3600.0

PROMISE_S = 24 * HOUR_S
"""Every byte of an image is gone this long after its upload."""

RESERVE_S = 1 * HOUR_S
"""Kept back for clock error and for brokers that are down."""

JUDGED_TO_APPENDED_S = 60.0
"""Longest time from judging that a record is young enough to its append: the request,
delivery and transaction timeouts of the stages are derived from it."""

ROUNDING_S = 1e-6
"""What adding the times up can be wrong by; Kafka counts in milliseconds."""

CLEANING_S = 60.0
"""What one round of the log cleaner over all consent topics may take."""

PICK_UP_S = 0.5 * HOUR_S
"""What an upload lives beyond the backlog limit, so that an expired one is still seen."""


@dataclass(frozen=True, kw_only=True)
class BrokerTimes:
    """How the brokers are set: when they look for old segments, and when they free bytes."""

    check_interval_s: float = 300.0
    delete_delay_s: float = 60.0
    cleaner_backoff_s: float = 15.0
    """How long the log cleaner rests when it has nothing to do; Kafka's default."""


@dataclass(frozen=True, kw_only=True)
class LaneTimes:
    """How a lane splits the promise.

    `backlog_limit_s`: an upload older than this is not processed any more.
    `delivery_s`: how long a result can be fetched at least; None takes all that is left.
    """

    backlog_limit_s: float = 4 * HOUR_S
    delivery_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is promised, and the outages that records survive."""

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
        """What a record can outlive retention.ms by."""
        return self.segment_s + self.broker.check_interval_s + self.broker.delete_delay_s

    @property
    def budget_s(self) -> float:
        """The worst age that is allowed."""
        return self.promise_s - self.reserve_s

    @property
    def heartbeat_s(self) -> float:
        """How often every partition of a compacted topic gets a record, whatever happens."""
        return self.segment_s / 3


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """How long the records of one image topic live, and why that is right."""

    age_when_appended_s: float
    segment_s: float
    retention_s: float
    needed_s: float
    """Retention must be at least this, or the next stage could miss a record."""
    check_interval_s: float
    delete_delay_s: float

    @property
    def worst_age_s(self) -> float:
        """The oldest that a byte in this topic can get, counted from the upload."""
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
    """How long a record of a compacted topic stays on disk after a newer one of its key.

    The newer one lies in a segment, which ends with the first record after `segment_s`; one
    comes within `heartbeat_s`.  Then the cleaner wakes and writes the log anew without the
    older record, and Kafka frees the old files a while later.  `max.compaction.lag.ms` and the
    least dirty ratio are set such that nothing else is waited for.
    """

    segment_s: float
    heartbeat_s: float
    cleaner_s: float
    delete_delay_s: float

    @property
    def worst_age_s(self) -> float:
        """The longest that it stays, counted from the append of the newer one."""
        return self.segment_s + self.heartbeat_s + self.cleaner_s + self.delete_delay_s


def superseded(policy: Policy) -> SupersededLifetime:
    """Of decisions that are no longer the last of their account."""
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
    """The age that a record can have when a stage behind the first appends it."""
    return lane.backlog_limit_s + policy.judged_to_appended_s


def uploads(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Of the uploads of a lane: until the backlog limit, and then long enough to say so."""
    needed_s = lane.backlog_limit_s + policy.pick_up_s
    return _lifetime(policy, age_s=0.0, retention_s=needed_s, needed_s=needed_s)


def cutouts(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Of the results on their way to the router."""
    needed_s = policy.router_outage_s
    age_s = appended_age_s(policy, lane)
    return _lifetime(policy, age_s=age_s, retention_s=needed_s, needed_s=needed_s)


def ephemeral(policy: Policy, lane: LaneTimes) -> Lifetime:
    """Of the results that the customer fetches: all that the promise leaves, or less."""
    age_s = appended_age_s(policy, lane)
    left_s = policy.budget_s - age_s - policy.overhead_s
    retention_s = left_s if lane.delivery_s is None else lane.delivery_s
    return _lifetime(policy, age_s=age_s, retention_s=retention_s, needed_s=policy.segment_s)


def retained(policy: Policy, lanes: tuple[LaneTimes, ...]) -> Lifetime:
    """Of the pictures on their way to the encryption sink."""
    age_s = max((appended_age_s(policy, lane) for lane in lanes), default=0.0)
    needed_s = policy.sink_outage_s
    return _lifetime(policy, age_s=age_s, retention_s=needed_s, needed_s=needed_s)


def prove(policy: Policy, topic: str, lifetime: Lifetime) -> None:
    """Both sums for one topic.  Raises `Refused` (promise_exceeded) with the sum that fails.

    Also refuses to promise more than `PROMISE_S`: no setting makes it longer.
    """
    if not (policy.promise_s <= PROMISE_S and policy.reserve_s >= 0):
        raise PromiseExceeded(
            f"promised {policy.promise_s:.0f} s with a reserve of {policy.reserve_s:.0f} s, "
            f"allowed {PROMISE_S:.0f} s",
        )
    # Asked this way round, so that a sum that is no number is refused.
    if not lifetime.worst_age_s <= policy.budget_s + ROUNDING_S:
        raise PromiseExceeded(
            f"{topic}: worst age {lifetime.worst_age_s:.0f} s, allowed {policy.budget_s:.0f} s",
        )
    if lifetime.retention_s < lifetime.needed_s or lifetime.retention_ms < 1:
        raise PromiseExceeded(
            f"{topic}: retention {lifetime.retention_s:.0f} s, needed {lifetime.needed_s:.0f} s; "
            "shorten the backlog limit or the outages to survive",
        )
